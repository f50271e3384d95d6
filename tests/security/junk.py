"""Files that are not what they should be: junk by hand, and by a seeded die from good ones."""

import base64
import datetime
import random
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HUGE = 1 << 40
"""Bytes of a file that no memory holds; sparse, it takes no room."""


def nested(depth: int) -> bytes:
    """SEQUENCE in SEQUENCE in SEQUENCE, of indefinite length (X.690 section 8.1.3.6)."""
    return b"\x30\x80" * depth


def pem(label: str, data: bytes) -> bytes:
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _request(key: object, name: str) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def _certificate(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(
        _name(name), _name(name), key.public_key(), 1, now, now + datetime.timedelta(days=9000)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def by_hand(good: bytes) -> dict[str, bytes]:
    """Junk that somebody might really have, beside a file of which `good` is the right content."""
    p256, p384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    request, certificate = _request(p256, "n01"), _certificate(p256, "n01")
    key = p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    text = certificate.find(b"\x0c\x03n01")
    bad_text = certificate[:text] + b"\x0c\x03\xff\xfe\x00" + certificate[text + 5 :]
    return {
        "nothing": b"",
        "a line": b"hello\n",
        "zeros": bytes(3000),
        "noise": random.Random(12).randbytes(5000),
        "JSON": b'{"a": [1, 2, {"b": null}]}\n',
        "deep JSON": b"[" * 100_000,
        "surrogates": b'"\\ud800"\n\xed\xa0\x80',
        "UTF-16": "certificate".encode("utf-16"),
        "deep ASN.1": nested(50_000),
        "endless length": b"\x30\x84\xff\xff\xff\xff" + good[:200],
        "no length": b"\x30",
        "negative numbers": b"\x30\x03\x02\x01\xff",
        "request": request,
        "request, cut": request[:-7],
        "request, with more behind it": request + b"more",
        "request, with another signature": request[:-4] + b"abcd",
        "request of an RSA key": _request(rsa.generate_private_key(65537, 2048), "n01"),
        "request of an Ed25519 key": _request(ed25519.Ed25519PrivateKey.generate(), "n01"),
        "request on another curve": _request(p384, "n01"),
        "request of another": _request(p256, "n02"),
        "request of a wildcard": _request(p256, "+/#"),
        "certificate": certificate,
        "certificate in PEM": pem("CERTIFICATE", certificate),
        "certificate with a name that is no text": bad_text,
        "certificate with a name that is no text, in PEM": pem("CERTIFICATE", bad_text),
        "wrong label": pem("X509 CRL", certificate),
        "request as a certificate": pem("CERTIFICATE", request),
        "deep ASN.1 as a certificate": pem("CERTIFICATE", nested(5_000)),
        "no base64": b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        "no end": b"-----BEGIN CERTIFICATE-----\nMIIB\n",
        "a private key": key,
        "twice": good + good,
        "the second half": good[len(good) // 2 :],
    }


def cut(dice: random.Random, good: bytes) -> bytes:
    return good[: dice.randrange(len(good) + 1)]


def flip(dice: random.Random, good: bytes) -> bytes:
    made = bytearray(good)
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        if made:
            made[dice.randrange(len(made))] ^= 1 << dice.randrange(8)
    return bytes(made)


def insert(dice: random.Random, good: bytes) -> bytes:
    at = dice.randrange(len(good) + 1)
    return good[:at] + dice.randbytes(dice.choice((1, 2, 16, 300))) + good[at:]


def drop(dice: random.Random, good: bytes) -> bytes:
    at = dice.randrange(len(good) + 1)
    return good[:at] + good[at + dice.choice((1, 2, 16, 300)) :]


def repeat(dice: random.Random, good: bytes) -> bytes:
    at = dice.randrange(len(good) + 1)
    return good[:at] + good[at : at + dice.choice((1, 16, 300))] * 3 + good[at:]


def lines(dice: random.Random, good: bytes) -> bytes:
    """Lines dropped, doubled and in another order."""
    parts = good.split(b"\n")
    for _ in range(dice.choice((1, 2, 5))):
        one, other = dice.randrange(len(parts)), dice.randrange(len(parts))
        parts[one : one + 1] = dice.choice(([], [parts[one]] * 2, [parts[other]]))
        parts = parts or [b""]
    return b"\n".join(parts)


CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (cut, flip, flip, insert, drop, repeat, lines)


def by_chance(dice: random.Random, good: bytes) -> bytes:
    """A changed copy of it."""
    return dice.choice(CHANGES)(dice, good)


def make_huge(path: Path) -> None:
    """Make it a file that no memory holds."""
    with path.open("wb") as file:
        file.truncate(HUGE)
