"""The authority of a project: what it issues, revokes, refuses, and how it is backed up."""

import datetime
import json
import random
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from host_tools.ca import CertificateAuthority, audit, public, told
from host_tools.ca.operator import operator
from host_tools.errors import LimpetError, RefusedError, UsageError
from host_tools.pki import crl
from host_tools.pki.check import check_identity
from host_tools.pki.names import OPERATOR
from tests.host.authorities import PASSPHRASE, Place, cheap_passphrases, make, request, unlock

DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cheap_passphrases():
        yield make(tmp_path_factory.mktemp("model"))


@pytest.fixture
def place(model: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, model)


@pytest.fixture
def ca(place: Place) -> Iterator[CertificateAuthority]:
    with place.open() as opened:
        yield opened
    assert audit(place.ca, now=place.clock()).findings == ()


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension:
    return certificate.extensions.get_extension_for_class(kind)


def bits(certificate: x509.Certificate) -> set[str]:
    usage = extension(certificate, x509.KeyUsage)
    assert usage.critical
    key = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign")
    return {name for name in (*key, "digital_signature", "crl_sign") if getattr(usage.value, name)}


def lists(place: Place) -> dict[str, x509.CertificateRevocationList]:
    return {each.issuer.rfc4514_string(): each for each in crl.from_pem((place.ca / "crl.pem").read_bytes())}


# -- what it is ----------------------------------------------------------------------------------------------


def test_two_levels(ca: CertificateAuthority) -> None:
    [root] = map(x509.load_der_x509_certificate, ca.trusted)
    [issuing] = map(x509.load_der_x509_certificate, ca.chain)
    for certificate, length in ((root, 1), (issuing, 0)):
        basic = extension(certificate, x509.BasicConstraints)
        assert basic.critical and basic.value == x509.BasicConstraints(ca=True, path_length=length)
        assert certificate.version is x509.Version.v3
        public_key = certificate.public_key()
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        assert isinstance(public_key.curve, ec.SECP256R1)
        [organisation] = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        assert organisation.value == "Plant 7"
        assert certificate.serial_number.bit_length() > 128
    assert bits(root) == {"key_cert_sign", "crl_sign"}
    # Its key seals the ledger too.
    assert bits(issuing) == {"key_cert_sign", "crl_sign", "digital_signature"}
    assert root.issuer == root.subject == issuing.issuer != issuing.subject
    root.verify_directly_issued_by(root)
    issuing.verify_directly_issued_by(root)
    years = [(each.not_valid_after_utc - each.not_valid_before_utc).days / 365.25 for each in (root, issuing)]
    assert years == pytest.approx([20, 5], abs=0.01)


def test_files_are_for_their_owner_alone(model: Path) -> None:
    for path in [model, *model.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_keys_are_encrypted(model: Path) -> None:
    for name in ("root.key", "issuing.key"):
        data = (model / name).read_bytes()
        assert data.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        with pytest.raises(TypeError):
            load_pem_private_key(data, None)
        load_pem_private_key(data, PASSPHRASE.encode())


def test_what_anybody_may_know(ca: CertificateAuthority, place: Place) -> None:
    issued = ca.issue_node(request("n01"), "n01")
    seen = public(place.ca)
    assert (seen.trusted, seen.chain) == (ca.trusted, ca.chain)
    assert seen.state.live("n01", place.clock()) == (issued,)
    assert [line.event for line in seen.lines] == ["init", "backup", "issue"]


# -- what it issues ------------------------------------------------------------------------------------------


def test_node(ca: CertificateAuthority, place: Place) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = ca.issue_node(request("n01", key), "n01")
    certificate = issued.certificate
    assert certificate.public_key() == key.public_key()
    assert [name.value for name in certificate.subject] == ["n01"]
    [uri] = extension(certificate, x509.SubjectAlternativeName).value
    assert uri.value == "spiffe://limpet/device/n01"
    assert list(extension(certificate, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert bits(certificate) == {"digital_signature"}
    assert extension(certificate, x509.BasicConstraints).value == x509.BasicConstraints(False, None)
    roots, chain = (list(map(x509.load_der_x509_certificate, each)) for each in (ca.trusted, ca.chain))
    PolicyBuilder().store(Store(roots)).build_client_verifier().verify(certificate, chain)
    assert (issued.node_id, issued.expires) == ("n01", certificate.not_valid_after_utc)
    assert issued.serial == f"{certificate.serial_number:x}"
    assert (place.ca / "issued" / f"{issued.serial}.crt").exists()
    now = place.clock()
    assert certificate.not_valid_before_utc < now - datetime.timedelta(minutes=59)
    assert abs(issued.expires - now - 825 * DAY) < 2 * datetime.timedelta(hours=1)
    assert issued in public(place.ca).state.live("n01", now)


def test_the_same_request_gets_the_same_certificate(ca: CertificateAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first = ca.issue_node(request("n01", key), "n01")
    assert ca.issue_node(request("n01", key), "n01") == first
    assert ca.issue_node(request("n01", key), "n01", overlap=True) == first
    assert ca.issue_node(request("n01", key), "n01", replace=True) == first
    assert ca.live("n01") == (first,) and ca.state.n == 3


def test_one_live_certificate_a_node(ca: CertificateAuthority) -> None:
    first = ca.issue_node(request("n01"), "n01")
    n = ca.state.n
    with pytest.raises(RefusedError, match=f"n01 has a live certificate .{first.serial}, until 20"):
        ca.issue_node(request("n01"), "n01")
    with pytest.raises(RefusedError, match="has a live certificate"):
        ca.issue_node_key("n01")
    assert ca.state.n == n
    second = ca.issue_node(request("n01"), "n01", replace=True)
    assert ca.live("n01") == (second,)
    assert ca.state.revoked[first.serial].reason == "superseded"
    ca.issue_node(request("n02"), "n02")


def test_a_rotation_has_two(ca: CertificateAuthority) -> None:
    old = ca.issue_node(request("n01"), "n01")
    new = ca.issue_node(request("n01"), "n01", overlap=True)
    assert ca.live("n01") == (old, new)
    with pytest.raises(
        RefusedError, match="2 live certificates already: revoke the one that it does not use"
    ):
        ca.issue_node(request("n01"), "n01", overlap=True)
    with pytest.raises(LimpetError, match="no live certificate with the fingerprint"):
        ca.keep_only("n01", "00" * 32)
    assert ca.keep_only("n01", new.fingerprint) == (old,)
    assert ca.keep_only("n01", new.fingerprint) == ()
    assert ca.live("n01") == (new,)


def test_a_key_is_one_nodes(ca: CertificateAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    ca.issue_node(request("n01", key), "n01")
    with pytest.raises(RefusedError, match=r"The key in the request of node n02 is that of node n01"):
        ca.issue_node(request("n02", key), "n02")
    ca.revoke("n01", "superseded")
    ca.issue_node(request("n01", key), "n01")
    ca.revoke("n01", "key-compromise")
    with pytest.raises(RefusedError, match="was revoked as compromised"):
        ca.issue_node(request("n01", key), "n01")


def test_identity_in_memory(ca: CertificateAuthority) -> None:
    identity = ca.issue_node_key("n01")
    check_identity(identity)
    key = load_der_private_key(identity.key, None)
    assert key.public_key() == ca.live("n01")[0].certificate.public_key()
    assert identity.cas == ca.trusted and identity.chain == (ca.live("n01")[0].der, *ca.chain)
    other = ca.issue_node_key("n01", replace=True)
    assert other.key != identity.key and len(ca.live("n01")) == 1


def test_renewal_under_the_same_key(ca: CertificateAuthority, place: Place) -> None:
    first = ca.issue_node(request("n01"), "n01")
    assert ca.renew_node("n01") == first
    place.clock.moved = 420 * DAY
    second = ca.renew_node("n01")
    assert second.certificate.public_key() == first.certificate.public_key()
    assert second.expires > first.expires + 400 * DAY
    assert ca.live("n01") == (first, second)
    with pytest.raises(RefusedError, match="n02 has no live certificate"):
        ca.renew_node("n02")


def test_broker_console_and_operator(ca: CertificateAuthority, place: Place, tmp_path: Path) -> None:
    broker = ca.issue_broker(["broker.plant.example", "10.0.0.5"])
    console = ca.issue_client("console", "wall-2")
    assert list(extension(broker.certificate, x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    roots = list(map(x509.load_der_x509_certificate, ca.trusted))
    name = x509.DNSName("broker.plant.example")
    PolicyBuilder().store(Store(roots)).build_server_verifier(name).verify(
        broker.certificate, list(broker.chain)
    )
    broker.save(tmp_path / "out", "broker")
    saved = x509.load_pem_x509_certificates((tmp_path / "out" / "broker.crt").read_bytes())
    assert saved == [broker.certificate, *broker.chain]
    assert console.certificate.subject.rfc4514_string() == "CN=limpet.wall-2"
    with operator(ca) as files:
        [leaf, _] = x509.load_pem_x509_certificates(files.certificate.read_bytes())
        assert leaf.subject.rfc4514_string() == f"CN={OPERATOR}"
        left = leaf.not_valid_after_utc - place.clock()
        assert datetime.timedelta(minutes=59) < left <= datetime.timedelta(hours=1)
        assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert not files.key.parent.exists()
    assert ca.live("limpet.operator") == ()  # it is no node
    with pytest.raises(LimpetError, match="would make it an operator"):
        ca.issue_client("console", "operator")


@pytest.mark.parametrize("days", [0, -1, 1827])
def test_days_that_cannot_be(ca: CertificateAuthority, days: int) -> None:
    with pytest.raises(UsageError, match=f"cannot last {days} days"):
        ca.issue_node(request("n01"), "n01", days=days)
    assert ca.live("n01") == ()


def test_nothing_outlives_its_issuer(ca: CertificateAuthority, place: Place) -> None:
    short = ca.issue_node(request("n01"), "n01", days=1)
    assert abs(short.expires - place.clock() - DAY) < datetime.timedelta(minutes=1)
    place.clock.moved = 4 * 365 * DAY
    issuing = ca.state.issued[ca.state.issuing]
    assert ca.issue_node(request("n02"), "n02").expires == issuing.expires
    place.clock.moved = 5 * 366 * DAY
    with pytest.raises(LimpetError, match=r"issuing authority in .* expired on 20.*'limpet ca rotate'"):
        ca.issue_node(request("n03"), "n03")
    assert ca.live("n01") == ca.live("n02") == ()


def test_many_at_once(ca: CertificateAuthority) -> None:
    def issue(first: int) -> None:
        for n in range(first, first + 10):
            ca.issue_node(request(f"n{n}"), f"n{n}")

    threads = [threading.Thread(target=issue, args=(first,)) for first in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(ca.live(f"n{n}")) == 1 for n in range(40))


def test_two_that_have_it_open(place: Place) -> None:
    with place.open() as one, place.open() as other:
        one.issue_node(request("n01"), "n01")
        with pytest.raises(RefusedError, match="has a live certificate"):
            other.issue_node(request("n01"), "n01")
        other.revoke("n01", "superseded")
        one.issue_node(request("n01"), "n01")
        one.rotate(place.folder / "second.backup")
        with pytest.raises(LimpetError, match="was rotated meanwhile: start the command again"):
            other.note("in-service", node="n01")
    assert audit(place.ca).findings == ()


def test_what_is_told(ca: CertificateAuthority, place: Place) -> None:
    ca.issue_node(request("n01"), "n01", days=30)
    ca.issue_node(request("n02"), "n02")
    ca.issue_broker(["localhost", "10.0.0.5"])
    ca.issue_client("operator")
    ca.revoke("n02", "superseded")
    now, state = place.clock(), ca.state

    def names(*, every: bool = False, within: int | None = None, name: str | None = None) -> list[str]:
        return [each.name for each in told.chosen(state, now, every=every, within=within, name=name)]

    assert names() == ["n01", "localhost 10.0.0.5"]
    assert names(within=60) == ["n01"] and names(within=29) == []
    assert names(name="n02") == [] and names(name="n02", every=True) == ["n02"]
    assert names(every=True)[2:] == ["n01", "n02", "localhost 10.0.0.5", "limpet.operator"]
    rows = told.listing(told.chosen(state, now, every=True, within=None, name="n02"), state, now)
    assert rows[0].split() == ["kind", "name", "state", "issued", "expires", "serial"]
    assert rows[1].split()[:3] == ["node", "n02", "revoked"]
    shown = told.authority("ca", public(place.ca), now)
    assert shown[0] == "ca" and shown[2] == f"           SHA-256 {state.issued[state.roots[0]].fingerprint}"
    assert "  live     1 node, 1 broker; 1 revoked" in shown and shown[-1].endswith("line 2")
    assert told.shortened(state.issued[state.issuing], now) == []
    assert "rotate with" in told.shortened(state.issued[state.issuing], now + 1010 * DAY)[0]


# -- what it revokes -----------------------------------------------------------------------------------------


def test_revoke(ca: CertificateAuthority, place: Place) -> None:
    [issuing] = map(x509.load_der_x509_certificate, ca.chain)
    name = issuing.subject.rfc4514_string()
    before = lists(place)[name]
    one, two, three = (ca.issue_node(request(name), name) for name in ("n01", "n02", "n03"))
    assert ca.revoke("n01", "key-compromise") == (one,)
    assert ca.revoke("n01", "key-compromise") == ()
    as_openssl = ":".join(re.findall("..", two.serial.upper().zfill(40)))
    assert ca.revoke(as_openssl, "unspecified") == (two,)
    after = lists(place)[name]
    assert after.is_signature_valid(issuing.public_key())  # type: ignore[arg-type]
    assert {f"{each.serial_number:x}" for each in after} == {one.serial, two.serial}
    entry = after.get_revoked_certificate_by_serial_number(int(one.serial, 16))
    assert entry is not None
    reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise
    plain = after.get_revoked_certificate_by_serial_number(int(two.serial, 16))
    assert plain is not None and not list(plain.extensions)
    numbers = [
        each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for each in (before, after)
    ]
    assert numbers[0] < numbers[1]
    # OpenSSL takes the newer of two lists by this time.
    assert before.last_update_utc < after.last_update_utc < place.clock()
    ca.revoke("n03", "superseded")
    assert lists(place)[name].last_update_utc > after.last_update_utc
    # A list that runs out shuts everybody out: it lasts as long as the certificates that it is about.
    assert after.next_update_utc == issuing.not_valid_after_utc >= three.expires


@pytest.mark.parametrize(
    ("what", "reason", "text"),
    [
        ("n99", "superseded", "There is no node and no certificate 'n99'"),
        ("n01", "because", "The reason 'because' is not one of those there are: unspecified, key-compromise"),
        ("root", "superseded", r"limpet root CA .* is the authority itself: rotate it first"),
        ("issuing", "superseded", r"limpet issuing CA .* is the authority itself: rotate it first"),
    ],
)
def test_what_cannot_be_revoked(ca: CertificateAuthority, what: str, reason: str, text: str) -> None:
    ca.issue_node(request("n01"), "n01")
    named = {"root": ca.state.roots[0], "issuing": ca.state.issuing}.get(what, what)
    with pytest.raises(LimpetError, match=text):
        ca.revoke(named, reason)
    assert not ca.state.revoked


def test_notes(ca: CertificateAuthority, place: Place) -> None:
    line = ca.note("in-service", node="n01", mac="aa:bb", count=3)
    assert json.loads((place.ca / "ledger.jsonl").read_text().splitlines()[-1])["mac"] == "aa:bb"
    assert (line.n, line.event, line.facts["count"]) == (3, "in-service", 3)
    for event, facts in (("revoke", {}), ("x", {"n": 1}), ("x", {"seal": ""})):
        with pytest.raises(ValueError):
            ca.note(event, **facts)
    with pytest.raises(TypeError):
        ca.note("x", what=object())
    assert ca.note("after").n == 4


# -- opening, backup and restoring ---------------------------------------------------------------------------


def test_what_cannot_be_opened(place: Place, tmp_path: Path) -> None:
    with pytest.raises(LimpetError, match=r"There is no certificate authority in .*'limpet ca init'"):
        CertificateAuthority.open(tmp_path / "elsewhere", unlock())
    with pytest.raises(RefusedError, match="not the passphrase"):
        CertificateAuthority.open(place.ca, unlock("another one altogether"))
    place.clock.moved = -3 * DAY
    with pytest.raises(LimpetError, match=r"is not valid before .*: set this machine's clock"):
        place.open()
    place.clock.moved *= 0
    (place.ca / "issuing.key").write_bytes((place.ca / "root.key").read_bytes())
    with pytest.raises(LimpetError, match=r"issuing\.key is not the key of limpet issuing CA"):
        place.open()
    (place.ca / "issuing.key").unlink()
    with pytest.raises(LimpetError, match=r"issuing\.key is not there"):
        place.open()


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "ETSI EN 303 645 5.13-1")
@pytest.mark.parametrize("name", ["ledger.jsonl", "ledger.head", "issuing.key", "crl.pem", "issuing.crt"])
def test_malformed_files(place: Place, name: str) -> None:
    """Junk in the place of a file of the authority is refused in one sentence, or mended and told."""
    chance = random.Random(name)
    path = place.ca / name
    good = path.read_bytes()
    spoilt = [b"", b"\xff\x00junk\n", b"\x30\x82\x01\x00" + chance.randbytes(60), good[: len(good) // 2]]
    for _ in range(30):
        at = chance.randrange(len(good) - 1)
        spoilt.append(good[:at] + chance.randbytes(3) + good[at + 3 :])
    for junk in spoilt:
        path.write_bytes(junk)
        audit(place.ca)
        try:
            with place.open() as ca:
                assert any(name in clause for clause in ca.mended) or junk == good
        except LimpetError as error:
            assert str(error).endswith(".") and "\n" not in str(error)
            assert not name.endswith((".pem", ".crt"))
            path.write_bytes(good)
    assert audit(place.ca).findings == ()


def test_a_root_key_that_is_kept_elsewhere(place: Place) -> None:
    (place.ca / "root.key").rename(place.folder / "safe.key")
    with place.open() as ca:
        ca.issue_node(request("n01"), "n01")
        ca.revoke("n01", "superseded")
        with pytest.raises(LimpetError, match=r"root\.key is not there: put that key back for this"):
            ca.rotate(place.folder / "second.backup")
        assert ca.issue_node(request("n01"), "n01")
    assert audit(place.ca).findings == ()


def test_born_with_a_backup(place: Place, model: Path, tmp_path: Path) -> None:
    restored = tmp_path / "restored"
    CertificateAuthority.restore(model.parent / "birth.backup", restored, unlock())
    assert [line.event for line in public(restored).lines] == ["init", "restore"]
    with CertificateAuthority.open(restored, unlock()) as ca, place.open() as original:
        assert ca.trusted == original.trusted
        ca.issue_node(request("n01"), "n01")
    assert audit(restored).findings == ()


def test_backup_and_restore(ca: CertificateAuthority, place: Place, tmp_path: Path) -> None:
    issued = ca.issue_node(request("n01"), "n01")
    ca.issue_node(request("n02"), "n02")
    ca.revoke("n02", "superseded")
    ca.backup(tmp_path / "later.backup")
    assert re.search(rb"canary|BEGIN|issue", (tmp_path / "later.backup").read_bytes()) is None
    restored = tmp_path / "restored"
    CertificateAuthority.restore(tmp_path / "later.backup", restored, unlock())
    with CertificateAuthority.open(restored, unlock()) as again:
        assert again.live("n01") == (issued,) and again.live("n02") == ()
    assert audit(restored).findings == ()
    with pytest.raises(RefusedError, match="is there already"):
        ca.backup(tmp_path / "later.backup")
    with pytest.raises(RefusedError, match="would be lost with it"):
        ca.backup(place.ca / "inside.backup")


def test_init_makes_all_or_nothing(tmp_path: Path, model: Path) -> None:
    taken, free = tmp_path / "taken", tmp_path / "ca"
    taken.write_text("")
    with pytest.raises(RefusedError, match="taken is there already"):
        CertificateAuthority.init(free, unlock(), taken)
    with pytest.raises(RefusedError, match="would be lost with it"):
        CertificateAuthority.init(free, unlock(), free / "birth.backup")
    with pytest.raises(RefusedError, match="passphrase is too weak"):
        CertificateAuthority.init(free, unlock("short"), tmp_path / "b")
    with pytest.raises(LimpetError, match="cannot be written"):
        CertificateAuthority.init(free, unlock(), tmp_path / "no" / "such" / "b")
    for name in ("", " x", "x" * 65, "a\nb"):
        with pytest.raises(LimpetError, match="The organisation"):
            CertificateAuthority.init(free, unlock(), tmp_path / "b", organisation=name)
    assert list(tmp_path.iterdir()) == [taken]
    with pytest.raises(RefusedError, match="is not empty"):
        CertificateAuthority.init(model, unlock(), tmp_path / "b")
    free.mkdir()
    CertificateAuthority.init(free, unlock(), tmp_path / "b", organisation="Wärme & Söhne")
    [root] = public(free).trusted
    assert "O=Wärme & Söhne" in x509.load_der_x509_certificate(root).subject.rfc4514_string()


def test_no_secret_in_what_it_says(ca: CertificateAuthority, place: Place) -> None:
    identity = ca.issue_node_key("n01")
    credential = ca.issue_client("console")
    shown = repr([ca, ca.unlock, ca.live("n01"), identity, credential, ca.state, ca.signer(ca.state.issuing)])
    assert PASSPHRASE not in shown and "PrivateKey" not in shown
    everything = b"".join(path.read_bytes() for path in place.ca.rglob("*") if path.is_file())
    assert PASSPHRASE.encode() not in everything and identity.key not in everything
