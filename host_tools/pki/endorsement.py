"""What lets a node take another identity over the network: the word of the authority that it has now.

Whoever owns a broker can send a node commands. Certificates and trusted CAs that come that way count only if
the authority which issued the node's present certificate has signed them, for this one step of this one node.
"""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from host_tools.pki import partition

# Neither a certificate nor a line of a ledger begins with this: one signature is never taken for another.
_PURPOSE = b"limpet endorsement\0"
_NUMBER = 32  # bytes of each of a signature's two numbers
_ALGORITHM = ec.ECDSA(hashes.SHA256())


def message(present: bytes, sequence: int, node_id: str, fields: bytes) -> bytes:
    """What is signed, as docs/formats.md has it.

    `present` is the SHA-256 of the certificate that the node has, `sequence` that of the identity to come,
    `fields` are its certificates and trusted CAs.
    """
    return _PURPOSE + present + sequence.to_bytes(4, "little") + node_id.encode() + fields


def endorse(
    key: ec.EllipticCurvePrivateKey, present: bytes, sequence: int, node_id: str, fields: bytes
) -> bytes:
    """The fields with the endorsement behind them, signed with `key`; the rest as `message` has it."""
    signature = key.sign(message(present, sequence, node_id, fields), _ALGORITHM)
    numbers = decode_dss_signature(signature)
    return fields + partition.endorsement_field(b"".join(each.to_bytes(_NUMBER, "big") for each in numbers))
