"""What a node may ask for: requests good and bad, and bytes that are none."""

import random
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from host_tools.errors import LimpetError
from host_tools.pki.request import check_request
from tests.host.authorities import request

KEY = ec.generate_private_key(ec.SECP256R1())
Names = list[tuple[x509.ObjectIdentifier, str]]


def asked(
    names: Names,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = KEY,
    algorithm: hashes.SHA256 | hashes.SHA384 | None = hashes.SHA256(),  # noqa: B008
) -> x509.CertificateSigningRequest:
    subject = x509.Name([x509.NameAttribute(*each) for each in names])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)


def der(*words: object) -> bytes:
    return asked(*words).public_bytes(Encoding.DER)  # type: ignore[arg-type]


CN, O = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME  # noqa: E741


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_a_good_one(encoding: Encoding) -> None:
    assert check_request(asked([(CN, "n01")]).public_bytes(encoding), "n01") == KEY.public_key()


def test_what_it_asks_for_beside_does_not_count() -> None:
    name = x509.Name([x509.NameAttribute(CN, "n01")])
    more = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(KEY, hashes.SHA256())
    )
    assert check_request(more.public_bytes(Encoding.DER), "n01") == KEY.public_key()


def with_another_key() -> bytes:
    """The request of one key with the signature of another."""
    good, other = der([(CN, "n01")]), request("n01")
    mine = x509.load_der_x509_csr(good).tbs_certrequest_bytes
    theirs = x509.load_der_x509_csr(other).tbs_certrequest_bytes
    return other.replace(theirs, mine)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: der([(CN, "n02")]), r"is for 'n02', and not for the node 'n01' alone"),
        (lambda: der([]), "is for no name, and not for the node 'n01' alone"),
        (lambda: der([(CN, "n01"), (CN, "n02")]), "is for 'n01', 'n02', and not"),
        (lambda: der([(CN, "n01"), (O, "Plant 7")]), "is for 'n01', 'Plant 7', and not"),
        (lambda: der([(O, "n01")]), "is for 'n01', and not"),
        (lambda: der([(CN, "n01\x00n02")]), "is for 'n01.x00n02', and not"),
        (lambda: der([(CN, "n01")], ec.generate_private_key(ec.SECP384R1())), "no key on the curve P-256"),
        (lambda: der([(CN, "n01")], ec.generate_private_key(ec.SECP256K1())), "no key on the curve P-256"),
        (lambda: der([(CN, "n01")], rsa.generate_private_key(65537, 2048)), "no key on the curve P-256"),
        (
            lambda: der([(CN, "n01")], ed25519.Ed25519PrivateKey.generate(), None),
            "no key on the curve P-256",
        ),
        (lambda: der([(CN, "n01")], KEY, hashes.SHA384()), "is not signed by ECDSA with SHA-256"),
        (with_another_key, "The signature of the certificate request of node n01 is wrong"),
        (lambda: b"", "These 0 bytes are no certificate request"),
        (lambda: der([(CN, "n01")]) + b"\0", "are no certificate request"),
        (lambda: b"\x30\x80" * 2000, "are no certificate request"),
        (lambda: b"\x30\x84\xff\xff\xff\xff", "are no certificate request"),
        (lambda: b"-----BEGIN CERTIFICATE REQUEST-----\njunk", "are no certificate request"),
        (lambda: der([(CN, "n01")]) * 40, r"These \d+ bytes are no certificate request"),
    ],
)
def test_a_bad_one(make: Callable[[], bytes], text: str) -> None:
    with pytest.raises(LimpetError, match=text):
        check_request(make(), "n01")


def test_a_bad_node_id() -> None:
    with pytest.raises(LimpetError, match="The node id 'n 1' is not valid"):
        check_request(request("n 1"), "n 1")


def is_refused(data: bytes) -> None:
    with pytest.raises(LimpetError) as caught:
        check_request(data, "n01")
    text = str(caught.value)
    assert text.endswith((".", "!")) and "\n" not in text and text.isprintable()


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "ETSI EN 303 645 5.13-1")
def test_every_bit_of_a_request_counts() -> None:
    """A certificate request with any one of its bits flipped, or cut short anywhere, is refused."""
    good = der([(CN, "n01")])
    # The count of unused bits before the signature: the signature is the same without those.
    unused = len(good) - len(x509.load_der_x509_csr(good).signature) - 1
    for at in range(8 * len(good)):
        if at // 8 == unused:
            continue
        flipped = bytearray(good)
        flipped[at // 8] ^= 1 << at % 8
        is_refused(bytes(flipped))
    for size in range(len(good)):
        is_refused(good[:size])


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "ETSI EN 303 645 5.13-1")
def test_junk() -> None:
    """Random bytes, random ASN.1 and requests with random bytes in them are refused in a sentence each."""
    chance = random.Random(12)
    good = der([(CN, "n01")])
    for _ in range(1500):
        is_refused(chance.randbytes(chance.randrange(300)))
        is_refused(asn1(chance, 5))
        spoilt = bytearray(good)
        at = chance.randrange(len(spoilt))
        spoilt[at : at + chance.randrange(1, 8)] = chance.randbytes(chance.randrange(8)) + b"\xa5"
        if spoilt != good:
            is_refused(bytes(spoilt))


def asn1(chance: random.Random, depth: int) -> bytes:
    """Well-formed DER without a meaning."""
    if not depth or chance.random() < 0.3:
        tag, body = chance.choice((1, 2, 3, 4, 5, 6, 12, 19, 23)), chance.randbytes(chance.randrange(40))
    else:
        tag = chance.choice((0x30, 0x31, 0xA0, 0xA3))
        body = b"".join(asn1(chance, depth - 1) for _ in range(chance.randrange(1, 4)))
    size = bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2, "big")
    return bytes([tag]) + size + body
