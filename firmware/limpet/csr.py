"""What enrolment writes in DER: a P-256 private key, and the request for a certificate on it."""

import hashlib

from micropython import const

from limpet import p256

_INTEGER = const(0x02)
_BIT_STRING = const(0x03)
_UTF8_STRING = const(0x0C)
_SEQUENCE = const(0x30)
_SET = const(0x31)
_VERSION_0 = b"\x02\x01\x00"
_NO_ATTRIBUTES = b"\xa0\x00"
_COMMON_NAME = b"\x06\x03\x55\x04\x03"
_ECDSA_WITH_SHA256 = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
# A public key on P-256 up to its coordinates (RFC 5480), and a private one up to its number (RFC 5915).
_PUBLIC = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
_PRIVATE = b"\x30\x77\x02\x01\x01\x04\x20"
_POINT = b"\x03\x42\x00\x04"
_BETWEEN = b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\xa1\x44" + _POINT


def private_key(d, q):
    """ECPrivateKey (RFC 5915) of the private key `d` and its public point `q`, 121 bytes."""
    return _PRIVATE + _number(d) + _BETWEEN + _number(q[0]) + _number(q[1])


def read_private_key(key):
    """(d, q) of an ECPrivateKey as `private_key` makes it. Raises ValueError for any other."""
    size = p256.SIZE
    at = len(_PRIVATE) + size
    if len(key) != at + len(_BETWEEN) + 2 * size:
        raise ValueError("not a private key on P-256")
    if key[: at - size] != _PRIVATE or key[at : at + len(_BETWEEN)] != _BETWEEN:
        raise ValueError("not a private key on P-256")
    numbers = (at - size, at + len(_BETWEEN), at + len(_BETWEEN) + size)
    d, x, y = (int.from_bytes(key[start : start + size], "big") for start in numbers)
    return d, (x, y)


def public_point(key):
    """The public key that a private one bears (ECPrivateKey or PKCS#8), as it stands in its certificate too.

    Raises ValueError if there is none on P-256.
    """
    at = key.rfind(_POINT)
    point = key[at:] if at >= 0 else b""
    if len(point) != len(_POINT) + 2 * p256.SIZE:
        raise ValueError("no public key on P-256")
    return point


def certified_point(certificate):
    """The point (x, y) that a certificate (DER) certifies. Raises ValueError if there is none on P-256."""
    before = _PUBLIC + _POINT
    at = certificate.find(before) + len(before)
    point = certificate[at : at + 2 * p256.SIZE]
    if at < len(before) or at != certificate.rfind(before) + len(before) or len(point) != 2 * p256.SIZE:
        raise ValueError("no public key on P-256")
    return int.from_bytes(point[: p256.SIZE], "big"), int.from_bytes(point[p256.SIZE :], "big")


def request(node_id, key):
    """Generator: the CertificationRequest (PKCS#10, RFC 2986) of `node_id` for an ECPrivateKey.

    Raises ValueError for a key that is none of ours, p256.FaultError if the chip miscalculates.
    """
    yield 0
    d, q = read_private_key(key)
    name = _tlv(_SEQUENCE, _COMMON_NAME + _tlv(_UTF8_STRING, node_id.encode()))
    subject = _tlv(_SEQUENCE, _tlv(_SET, name))
    info = _tlv(_SEQUENCE, _VERSION_0 + subject + _PUBLIC + public_point(key) + _NO_ATTRIBUTES)
    yield 0
    r, s = yield from p256.sign(d, q, hashlib.sha256(info).digest())
    signature = _tlv(_SEQUENCE, _integer(r) + _integer(s))
    return _tlv(_SEQUENCE, info + _ECDSA_WITH_SHA256 + _tlv(_BIT_STRING, b"\x00" + signature))


def _number(value):
    return value.to_bytes(p256.SIZE, "big")


def _integer(value):
    data = _number(value).lstrip(b"\x00")
    return _tlv(_INTEGER, b"\x00" + data if data[0] >= 0x80 else data)


def _tlv(tag, value):
    """One item of DER (X.690), for up to 255 bytes of value."""
    length = len(value)
    return bytes([tag, length] if length < 0x80 else [tag, 0x81, length]) + value
