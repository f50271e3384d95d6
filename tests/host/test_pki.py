"""The certificate authority: what it makes, what it writes, and what it refuses."""

import datetime
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from host_tools.errors import LimpetError
from host_tools.pki.authority import CA_CERTIFICATE, CA_KEY, Authority
from host_tools.pki.names import CONSOLE, is_node_id

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
YEARS = datetime.timedelta(days=825)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ca"


def common_name(certificate: x509.Certificate) -> str:
    (attribute,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)


def usages(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def node_certificate(authority: Authority, node_id: str = "n01") -> x509.Certificate:
    return x509.load_der_x509_certificate(authority.issue_node(node_id).chain[0])


# -- what it makes -----------------------------------------------------------------------------------------


def test_authority_certificate(folder: Path) -> None:
    certificate = Authority.create(folder).certificate
    assert certificate.version is x509.Version.v3
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    extensions = certificate.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical and basic.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign
    assert not usage.value.digital_signature and not usage.value.key_agreement
    own = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert own == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == own.digest
    certificate.verify_directly_issued_by(certificate)


def test_node_certificate(folder: Path) -> None:
    authority = Authority.create(folder)
    identity = authority.issue_node("n01")
    certificate = x509.load_der_x509_certificate(identity.chain[0])
    assert common_name(certificate) == identity.node_id == "n01"
    assert alternatives(certificate) == x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier("spiffe://limpet/device/n01")]
    )
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical and basic.value == x509.BasicConstraints(ca=False, path_length=None)
    issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer.key_identifier == own.digest
    certificate.verify_directly_issued_by(authority.certificate)
    assert identity.cas == (authority.certificate.public_bytes(Encoding.DER),)


def test_node_key_is_sec1_on_p256(folder: Path) -> None:
    identity = Authority.create(folder).issue_node("n01")
    key = load_der_private_key(identity.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    assert identity.key == key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert key.public_key() == x509.load_der_x509_certificate(identity.chain[0]).public_key()


def test_sign_node_signs_the_key_it_is_given(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert Authority.create(folder).sign_node("n01", key).public_key() == key


def test_broker_certificate_serves_its_names(folder: Path) -> None:
    authority = Authority.create(folder)
    names = ["broker.plant.example", "localhost", "10.0.0.5", "::1"]
    certificate = authority.issue_broker(names).certificate
    assert usages(certificate) == [ExtendedKeyUsageOID.SERVER_AUTH]
    bears = alternatives(certificate)
    assert bears.get_values_for_type(x509.DNSName) == names[:2]
    assert [str(address) for address in bears.get_values_for_type(x509.IPAddress)] == names[2:]
    verifier = (
        PolicyBuilder().store(Store([authority.certificate])).build_server_verifier(x509.DNSName("localhost"))
    )
    verifier.verify(certificate, [])


def test_console_certificate_is_no_nodes(folder: Path) -> None:
    authority = Authority.create(folder)
    certificate = authority.issue_console().certificate
    assert common_name(certificate) == CONSOLE == "limpet.console"
    assert usages(certificate) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not is_node_id(common_name(certificate))
    assert common_name(authority.issue_console("wall-2").certificate) == "limpet.wall-2"


def test_validity(folder: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    authority = Authority.create(folder)
    broker, console = authority.issue_broker(["b"]).certificate, authority.issue_console().certificate
    for certificate in (authority.certificate, node_certificate(authority), broker, console):
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        assert now - datetime.timedelta(hours=2) < begin < now - datetime.timedelta(minutes=30)
        assert now + datetime.timedelta(days=800) < end <= begin + YEARS
        assert end <= authority.certificate.not_valid_after_utc


def test_nothing_outlives_its_authority(folder: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    authority = Authority.create(folder, now=now - datetime.timedelta(days=700))
    assert node_certificate(authority).not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_nothing_repeats(folder: Path) -> None:
    authority = Authority.create(folder)
    identities = [authority.issue_node("n01") for _ in range(20)]
    serials = {x509.load_der_x509_certificate(identity.chain[0]).serial_number for identity in identities}
    assert len(serials) == len({identity.key for identity in identities}) == 20
    other = Authority.create(folder / "other")
    assert other.certificate.subject != authority.certificate.subject


# -- what it writes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_files_are_for_their_owner_alone(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        authority = Authority.create(folder)
        authority.issue_broker(["localhost"]).save(folder, "broker")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys(("ca.key", "ca.crt", "broker.key", "broker.crt"), 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_load_finds_what_create_made(folder: Path) -> None:
    made = Authority.create(folder)
    loaded = Authority.load(folder)
    assert loaded.certificate == made.certificate
    node_certificate(loaded).verify_directly_issued_by(made.certificate)
    assert Authority.load_or_create(folder).certificate == made.certificate
    assert Authority.load_or_create(folder / "new").certificate != made.certificate


def test_saved_pair_belongs_together(folder: Path) -> None:
    Authority.create(folder).issue_console().save(folder, "console")
    key = load_pem_private_key((folder / "console.key").read_bytes(), password=None)
    certificate = x509.load_pem_x509_certificate((folder / "console.crt").read_bytes())
    assert key.public_key() == certificate.public_key()


def test_a_full_disk_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.create(folder)
    authority.issue_console().save(folder, "console")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LimpetError, match=r"console\.key cannot be written: No space left on device\."):
        authority.issue_console().save(folder, "console")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# -- what it refuses ---------------------------------------------------------------------------------------


def test_create_does_not_overwrite(folder: Path) -> None:
    Authority.create(folder)
    with pytest.raises(LimpetError, match=r"already holds ca\.key"):
        Authority.create(folder)


def test_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "ca"):
        with pytest.raises(LimpetError, match="cannot be made or read"):
            Authority.create(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(LimpetError, match="Permission denied"):
            Authority.create(tmp_path / "ca")
        with pytest.raises(LimpetError, match="Permission denied"):
            Authority.create(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_no_authority(tmp_path: Path) -> None:
    with pytest.raises(LimpetError, match="There is no certificate authority in"):
        Authority.load(tmp_path)
    with pytest.raises(LimpetError, match="There is no certificate authority in"):
        Authority.load(tmp_path / "missing")


def rsa_key() -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def encrypted_key() -> bytes:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"words"))


def unlink(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content())


def take(name: str, stem: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        other = Authority.create(folder / "other")
        other.issue_console().save(folder / "other", "console")
        (folder / name).write_bytes((folder / "other" / stem).read_bytes())

    return damage


def leaf_pair(folder: Path) -> None:
    Authority.load(folder).issue_console().save(folder, "ca")


def make_folder(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (unlink(CA_KEY), r"half made, ca\.key is missing"),
        (unlink(CA_CERTIFICATE), r"half made, ca\.crt is missing"),
        (write(CA_KEY, lambda: b"junk"), r"ca\.key is not an unencrypted private key"),
        (write(CA_KEY, lambda: b""), r"ca\.key is not an unencrypted private key"),
        (write(CA_KEY, encrypted_key), r"ca\.key is not an unencrypted private key"),
        (write(CA_KEY, rsa_key), r"ca\.key is not an elliptic-curve key"),
        (write(CA_CERTIFICATE, lambda: b"\xff\x00junk"), r"ca\.crt is not a certificate"),
        (take(CA_KEY, "ca.key"), "do not belong together"),
        (take(CA_CERTIFICATE, "ca.crt"), "do not belong together"),
        (take(CA_KEY, "ca.crt"), r"ca\.key is not an unencrypted private key"),
        (leaf_pair, "is not the certificate of an authority"),
        (make_folder(CA_KEY), r"key .*ca\.key cannot be read"),
        (make_folder(CA_CERTIFICATE), r"certificate .*ca\.crt cannot be read"),
    ],
)
def test_damaged_authority(folder: Path, damage: Callable[[Path], object], text: str) -> None:
    Authority.create(folder)
    damage(folder)
    with pytest.raises(LimpetError, match=text):
        Authority.load(folder)
    with pytest.raises(LimpetError, match=text):
        Authority.load_or_create(folder)


def test_authority_out_of_date(folder: Path) -> None:
    Authority.create(folder, now=LONG_AGO)
    with pytest.raises(LimpetError, match="expired on 2022-04-04"):
        Authority.load(folder)
    with pytest.raises(LimpetError, match="not valid before 2019-12-31"):
        Authority.load(folder, now=datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
    Authority.load(folder, now=LONG_AGO)


@pytest.mark.parametrize(
    "node_id", ["", "-n", "n 1", "n/1", "n#", "n+", "n.1", "é", "n" * 33, "n\n", CONSOLE]
)
def test_bad_node_id(folder: Path, node_id: str) -> None:
    with pytest.raises(LimpetError, match=r"The node id .* is not valid"):
        Authority.create(folder).issue_node(node_id)


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "*.example", "-a", "a-", "a..b", "300.1.1.1", "a/b", "é", "a" * 64, "a\n"]
)
def test_bad_broker_name(folder: Path, name: str) -> None:
    with pytest.raises(LimpetError, match="is neither a host name nor an IP address"):
        Authority.create(folder).issue_broker(["good.example", name])


def test_broker_without_a_name(folder: Path) -> None:
    with pytest.raises(LimpetError, match="at least one host name"):
        Authority.create(folder).issue_broker([])


@pytest.mark.parametrize("name", ["", "A", "a.b", "a b", "-a", "a-", "a" * 33])
def test_bad_console_name(folder: Path, name: str) -> None:
    with pytest.raises(LimpetError, match="The console name"):
        Authority.create(folder).issue_console(name)


def test_no_key_in_any_message(folder: Path) -> None:
    authority = Authority.create(folder)
    credential = authority.issue_console()
    credential.save(folder, "console")
    body = (folder / "console.key").read_text().splitlines()[1]
    assert body not in repr(credential) and "PrivateKey" not in repr(credential)
    assert "PrivateKey" not in repr(authority)
    (folder / CA_KEY).write_text(f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(LimpetError) as caught:
        Authority.load(folder)
    assert body not in str(caught.value) and caught.value.__cause__ is None
