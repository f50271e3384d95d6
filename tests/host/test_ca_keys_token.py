"""The keys of an authority in a PKCS#11 token. SoftHSM is the token."""

import copy
import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from host_tools.ca import keys, passphrase, token_uri
from host_tools.ca.passphrase import Unlock
from host_tools.ca.token import TokenKey
from host_tools.errors import LimpetError, RefusedError, UsageError
from tests.host.soft_token import PIN, make_token, module, softhsm, uri

needs_softhsm = pytest.mark.skipif(module() is None, reason="SoftHSM is not installed (apt: softhsm2)")
Made = tuple[Path, ec.EllipticCurvePrivateKey]
LABEL = "Plant 3; line=7"


def told(pin: str) -> Unlock:
    reader, writer = os.pipe()
    os.write(writer, f"{pin}\n".encode())
    os.close(writer)
    return passphrase.from_descriptor(reader, "the authority in ca")


@pytest.fixture(scope="module", autouse=True)
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if module() is None:
        yield
        return
    with softhsm(tmp_path_factory.mktemp("softhsm")):
        for label in (LABEL, "twin", "twin"):
            make_token(label)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tokens: None) -> Made:
    path = tmp_path_factory.mktemp("keys") / "issuing.key"
    return path, keys.create(path, told(PIN), uri(LABEL))


@needs_softhsm
@pytest.mark.security(2, "IEC 62443-4-2 CR 1.9 RE 1", "ETSI EN 303 645 5.4-1")
def test_a_key_is_made_in_the_token_and_stays_there(made: Made) -> None:
    """With a token, the authority's private key is made in it, marked never to leave, and no file has it."""
    import pkcs11

    path, key = made
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600 and keys.in_token(path)
    assert text.startswith("pkcs11:token=Plant%203%3B%20line=7;object=limpet%20issuing%20")
    assert PIN not in text and PIN not in repr(key)
    with pkcs11.lib(str(module())).get_token(token_label=LABEL).open() as session:  # `made` has logged in
        (handle,) = session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})
        kept = {
            name: handle[getattr(pkcs11.Attribute, name)]
            for name in ("SENSITIVE", "EXTRACTABLE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "PRIVATE")
        }
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            _ = handle[pkcs11.Attribute.VALUE]
    assert kept == {
        "SENSITIVE": True,
        "EXTRACTABLE": False,
        "ALWAYS_SENSITIVE": True,
        "NEVER_EXTRACTABLE": True,
        "PRIVATE": True,
    }
    for ask in (
        key.private_numbers,
        lambda: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        lambda: key.exchange(ec.ECDH(), key.public_key()),
    ):
        with pytest.raises(LimpetError, match="stays in the token Plant 3; line=7; it only signs there"):
            ask()


@needs_softhsm
def test_certificates_and_revocation_lists_are_signed_by_it(made: Made) -> None:
    key = keys.load(made[0], told(PIN))
    public = key.public_key()
    assert public == made[1].public_key() and (key.curve.name, key.key_size) == ("secp256r1", 256)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "limpet")])
    now = datetime.datetime(2026, 11, 22)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + day)
        .sign(key, hashes.SHA256())
    )
    certificate.verify_directly_issued_by(certificate)
    crl = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now).next_update(now + day)
    assert crl.sign(key, hashes.SHA256()).is_signature_valid(public)
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA384())
    assert request.is_signature_valid
    digest = b"\x5a" * 32
    how = ec.ECDSA(Prehashed(hashes.SHA256()))
    public.verify(key.sign(digest, how), digest, how)
    assert copy.copy(key) is copy.deepcopy(key) is key


@needs_softhsm
def test_a_hundred_signatures_are_whole(made: Made) -> None:
    """Among a hundred, some have numbers with leading zeros, which DER writes shorter."""
    for i in range(100):
        signature = made[1].sign(bytes((i,)), ec.ECDSA(hashes.SHA256()))
        made[1].public_key().verify(signature, bytes((i,)), ec.ECDSA(hashes.SHA256()))


@needs_softhsm
def test_a_key_that_is_there_is_found(made: Made, tmp_path: Path) -> None:
    named = str(token_uri.parse(made[0].read_text().strip()).object)
    again = keys.create(tmp_path / "found.key", told(PIN), uri(LABEL, object=named))
    assert again.public_key() == made[1].public_key()
    assert (tmp_path / "found.key").read_text() == made[0].read_text()
    new = keys.create(tmp_path / "new.key", told(PIN), uri(LABEL, object="root of 2026"))
    assert new.public_key() != made[1].public_key()
    assert ";object=root%20of%202026;id=%" in (tmp_path / "new.key").read_text()


@needs_softhsm
def test_a_key_that_could_leave_is_refused(made: Made, tmp_path: Path) -> None:
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    def make(session: pkcs11.Session, label: str, curve: str, **private: bool) -> None:
        parameters = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}
        template = {getattr(pkcs11.Attribute, name): value for name, value in private.items()}
        session.create_domain_parameters(pkcs11.KeyType.EC, parameters, local=True).generate_keypair(
            label=label, id=label.encode(), store=True, private_template=template
        )

    with pkcs11.lib(str(module())).get_token(token_label=LABEL).open(rw=True) as session:
        make(session, "loose", "secp256r1", EXTRACTABLE=True)
        make(session, "wide", "secp384r1", EXTRACTABLE=False)
        make(session, "alone", "secp256r1", EXTRACTABLE=False, SENSITIVE=True)
        (public,) = session.get_objects(
            {pkcs11.Attribute.LABEL: "alone", pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY}
        )
        public.destroy()
    place = r"the token Plant 3; line=7"
    for name, error, sentence in (
        ("loose", RefusedError, f"^The key 'loose' can be taken out of {place}: leave 'object=' out"),
        ("wide", LimpetError, f"^The key 'wide' in {place} is not on the curve P-256: make another"),
        ("alone", LimpetError, f"^The key 'alone' in {place} has no public key of the same name"),
    ):
        with pytest.raises(error, match=sentence):
            keys.create(tmp_path / "root.key", told(PIN), uri(LABEL, object=name))
    assert not (tmp_path / "root.key").exists()


WRONG_PIN = """
import sys
from pathlib import Path
from host_tools.ca import keys, passphrase
from host_tools.errors import LimpetError
try:
    keys.load(Path(sys.argv[1]), passphrase.from_descriptor(0, "ca"))
except LimpetError as error:
    print(type(error).__name__, error)
else:
    print("signed")
"""


@needs_softhsm
@pytest.mark.security(2, "IEC 62443-4-2 CR 1.1")
def test_a_wrong_pin_is_refused_and_not_shown(made: Made) -> None:
    """Without the token's PIN nothing is signed, and a wrong PIN is not repeated in the message."""
    # Processes of their own: in this one the user is logged in.
    said = {}
    for pin in ("999999", "1", PIN):
        done = subprocess.run(
            [sys.executable, "-c", WRONG_PIN, str(made[0])],
            input=f"{pin}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        said[pin] = done.stdout
    place = "the token Plant 3; line=7"
    no = f"RefusedError That is not the PIN of {place}: try again, and mind that it allows few attempts.\n"
    assert said == {"999999": no, "1": no, PIN: "signed\n"}


@needs_softhsm
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            uri("absent"),
            r"^The module \S+ has no token like the token absent: plug it in, or mend the URI\.$",
        ),
        (uri("twin"), r"^The module \S+ has 2 tokens like the token twin: add 'serial=' to the URI\.$"),
        (
            uri(LABEL, object="absent"),
            r"^There is no key 'absent' in the token Plant 3; line=7: mend the URI\.$",
        ),
        (uri(LABEL), r"^There are \d+ keys in the token .*: add 'object=' or 'id=' to the URI\.$"),
        ("pkcs11:token=a?module-path=/no/such.so", r"^The token's library /no/such\.so cannot be loaded: "),
        (
            f"pkcs11:token=a?module-path={__file__}",
            r"^The token's library \S+ cannot be loaded: see that it ",
        ),
    ],
    ids=["token", "two tokens", "key", "many keys", "library", "no library"],
)
def test_what_is_not_there(text: str, sentence: str, made: Made, tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    path.write_text(text)
    keys.create(tmp_path / "other.key", told(PIN), uri(LABEL))
    with pytest.raises(LimpetError, match=sentence):
        keys.load(path, told(PIN))


@needs_softhsm
def test_a_public_key_of_another_is_found_out(made: Made) -> None:
    key = made[1]
    assert isinstance(key, TokenKey)
    other = TokenKey(key._where, key._handle, ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(LimpetError, match="does not fit the public key 'limpet issuing "):
        other.sign(b"", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        other.public_key().verify(key.sign(b"", ec.ECDSA(hashes.SHA256())), b"", ec.ECDSA(hashes.SHA256()))


def test_without_the_library_it_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(LimpetError, match=r"install it with 'pip install limpet\[pkcs11\]'\.$"):
        keys.create(tmp_path / "root.key", told(PIN), "pkcs11:token=a?module-path=/no/such.so")


def test_a_uri_is_read_and_written() -> None:
    text = (
        "pkcs11:token=a%20b;serial=0042;manufacturer=S;model=v2;object=%c3%a9;id=%00%ff?module-path=/a/b.so"
    )
    where = token_uri.parse(text)
    assert (where.token, where.serial, where.manufacturer, where.model) == ("a b", "0042", "S", "v2")
    assert (where.object, where.id, where.module) == ("é", b"\x00\xff", "/a/b.so")
    assert str(where) == text.replace("%c3%a9", "%C3%A9")
    awkward = token_uri.TokenUri("/a?b&c;d e", "t;u?v&w%=", object="/x y", id=b"")
    assert token_uri.parse(str(awkward)) == awkward
    assert token_uri.parse("pkcs11:type=private;serial=1?module-path=/a").name == "token 1"


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5")
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it does not begin with 'pkcs11:'"),
        ("/etc/ca.key", "it does not begin with 'pkcs11:'"),
        ("pkcs11:", "it names no token: add 'token=' with the token's label"),
        ("pkcs11:object=a?module-path=/a", "it names no token: add 'token=' with the token's label"),
        ("pkcs11:token=a", "it needs '?module-path=' with the whole path of the token's library"),
        ("pkcs11:token=a?module-path=a.so", "it needs '?module-path=' with the whole path of the "),
        ("pkcs11:token=a;token=b?module-path=/a", "it has 'token' twice"),
        ("pkcs11:token=a;slot-id=1?module-path=/a", "it has 'slot-id', where token, serial, "),
        ("pkcs11:token=a?module-name=a", "it has 'module-name', where module-path can be"),
        ("pkcs11:token=a;type=cert?module-path=/a", "its 'type' must be 'private'"),
        ("pkcs11:token=a b?module-path=/a", "its part 1 is not 'name=value' with other characters as %XX"),
        ("pkcs11:token=a;b?module-path=/a", "its part 2 is not 'name=value' with other characters as %XX"),
        ("pkcs11:token=%zz?module-path=/a", "its part 1 is not 'name=value' with other characters as %XX"),
        ("pkcs11:token=%ff?module-path=/a", "its 'token' is not UTF-8"),
        ("pkcs11:token=a?module-path=/a%00b", "its 'module-path' has a zero byte"),
        (f"pkcs11:token=a?module-path=/a&pin-value={PIN}", "a PIN does not belong in it, for it is asked "),
        (f"pkcs11:token=a;pin-value={PIN}?module-path=/a", "a PIN does not belong in it, for it is asked "),
        ("pkcs11:token=a?pin-source=file:/pin&module-path=/a", "a PIN does not belong in it, for it is "),
    ],
)
def test_a_uri_that_cannot_be_used(text: str, why: str, tmp_path: Path) -> None:
    """A URI that names no key, or has a PIN in it, is refused in one sentence that shows no PIN."""
    with pytest.raises(UsageError) as caught:
        token_uri.parse(text)
    assert str(caught.value).startswith(f"The PKCS#11 URI cannot be used: {why}")
    assert PIN not in str(caught.value)
    if text.startswith("pkcs11:"):
        (tmp_path / "root.key").write_text(text)
        with pytest.raises(
            LimpetError, match=f"^In {tmp_path / 'root.key'}: The PKCS#11 URI cannot be used: "
        ):
            keys.load(tmp_path / "root.key", told(PIN))
