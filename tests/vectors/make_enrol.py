"""Makes tests/vectors/enrol.json: node keys that are known, and certificates for them from an authority.

Run it from anywhere: `python tests/vectors/make_enrol.py`. The same bytes come out each time. The private
keys are in the open, so nothing real may ever trust them.
"""

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TARGET = Path(__file__).with_name("enrol.json")

NODE_ID = "n01"
FROM = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
UNTIL = datetime.datetime(2056, 1, 1, tzinfo=datetime.UTC)


def key(name: str) -> ec.EllipticCurvePrivateKey:
    """The private key whose number is the SHA-256 of `name`."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    return ec.derive_private_key(number, ec.SECP256R1())


def certificate(name: str, public: str, issuer: str, serial: int, path_length: int | None) -> bytes:
    """The certificate of `name` for the key called `public`, signed with the one called `issuer`."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key(public).public_key())
        .serial_number(serial)
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .add_extension(x509.BasicConstraints(path_length is not None, path_length), critical=True)
    )
    if path_length is None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        uri = x509.UniformResourceIdentifier(f"spiffe://limpet/device/{name}")
        builder = builder.add_extension(usage, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    made = builder.sign(key(issuer), hashes.SHA256(), ecdsa_deterministic=True)
    return made.public_bytes(Encoding.DER)


def fields(*parts: tuple[int, bytes]) -> str:
    """Fields of the identity partition (docs/formats.md), as hex."""
    return b"".join(bytes([tag]) + len(value).to_bytes(2, "little") + value for tag, value in parts).hex()


def endorsed(signer: str, present: bytes, sequence: int, put: str) -> str:
    """The fields with their endorsement by the key called `signer`, for who has the certificate `present`."""
    what = hashlib.sha256(present).digest() + sequence.to_bytes(4, "little") + NODE_ID.encode()
    message = b"limpet endorsement\0" + what + bytes.fromhex(put)
    signature = key(signer).sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return put + fields((6, b"".join(each.to_bytes(32, "big") for each in decode_dss_signature(signature))))


def document() -> str:
    root = certificate("root", "root", "root", 1, 1)
    other_root = certificate("root 2", "root 2", "root 2", 2, 1)
    issuing = certificate("issuing", "issuing", "root", 3, 0)
    first = certificate(NODE_ID, "first", "issuing", 4, None)
    again = certificate(NODE_ID, "first", "issuing", 5, None)
    second = certificate(NODE_ID, "second", "issuing", 6, None)
    made: dict[str, Any] = {
        "about": "Made by make_enrol.py. 'keys' are private keys, 'put' the fields that are put for them, "
        "'endorsed' such with an endorsement for the node that has the first certificate.",
        "node_id": NODE_ID,
        "keys": {name: f"{key(name).private_numbers().private_value:064x}" for name in ("first", "second")},
        "put": {
            "first": fields((3, first), (3, issuing), (4, root)),
            "again": fields((3, again), (3, issuing), (4, root)),
            "retrust": fields((3, first), (3, issuing), (4, root), (4, other_root)),
            "second": fields((3, second), (3, issuing), (4, root), (4, other_root)),
            "no CA": fields((3, first), (3, issuing)),
            "no certificate": fields((4, root)),
            "junk for a certificate": fields((3, first), (3, b"\x30\x03\x02\x01\x00"), (4, root)),
            "junk for a CA": fields((3, first), (4, b"junk")),
            "another key too": fields((2, b"key"), (3, first), (4, root)),
        },
        "fingerprints": {
            name: hashlib.sha256(der).hexdigest()
            for name, der in (("first", first), ("again", again), ("retrust", first), ("second", second))
        },
    }
    made["endorsed"] = {
        "second": endorsed("issuing", first, 2, made["put"]["second"]),
        "retrust": endorsed("issuing", first, 2, made["put"]["retrust"]),
        "by the root": endorsed("root", first, 2, made["put"]["second"]),
        "later": endorsed("issuing", first, 3, made["put"]["second"]),
        "from another": endorsed("issuing", again, 2, made["put"]["second"]),
    }
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document())
