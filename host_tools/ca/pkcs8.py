"""Private keys as encrypted PKCS#8 in PEM (RFC 5958, RFC 7468): PBES2 with scrypt (RFC 7914) and AES-256.

The cryptography library reads this, but what it writes has PBKDF2 with 2,048 rounds, which is a hundred times
too little today. So the envelope is built here, of its parts. OpenSSL's tools read it too.
"""

import base64
import os
import textwrap

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ObjectIdentifier

from host_tools.ca import scrypt

_PBES2 = ObjectIdentifier("1.2.840.113549.1.5.13")
_SCRYPT = ObjectIdentifier("1.3.6.1.4.1.11591.4.11")
_AES256_CBC = ObjectIdentifier("2.16.840.1.101.3.4.1.42")
_BLOCK = 16  # bytes of an AES block
_BEGIN, _END = (f"-----{word} ENCRYPTED PRIVATE KEY-----" for word in ("BEGIN", "END"))


@asn1.sequence
class _ScryptParameters:
    salt: bytes
    cost: int
    block_size: int
    parallelization: int


@asn1.sequence
class _KeyDerivation:
    algorithm: ObjectIdentifier
    parameters: _ScryptParameters


@asn1.sequence
class _Encryption:
    algorithm: ObjectIdentifier
    iv: bytes


@asn1.sequence
class _Scheme:
    key_derivation: _KeyDerivation
    encryption: _Encryption


@asn1.sequence
class _Algorithm:
    algorithm: ObjectIdentifier
    parameters: _Scheme


@asn1.sequence
class _EncryptedPrivateKeyInfo:
    algorithm: _Algorithm
    data: bytes


@asn1.sequence
class _AnyAlgorithm:
    algorithm: ObjectIdentifier
    parameters: asn1.TLV


@asn1.sequence
class _AnyEncryptedPrivateKeyInfo:
    algorithm: _AnyAlgorithm
    data: bytes


def encrypt(key: ec.EllipticCurvePrivateKey, passphrase: bytes) -> bytes:
    """`key` in PEM, encrypted under `passphrase`."""
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, iv = scrypt.salt(), os.urandom(_BLOCK)
    padder = PKCS7(8 * _BLOCK).padder()
    encryptor = Cipher(algorithms.AES(scrypt.derive(passphrase, salt)), modes.CBC(iv)).encryptor()
    info = _EncryptedPrivateKeyInfo(
        algorithm=_Algorithm(
            algorithm=_PBES2,
            parameters=_Scheme(
                key_derivation=_KeyDerivation(
                    algorithm=_SCRYPT,
                    parameters=_ScryptParameters(
                        salt=salt, cost=scrypt.N, block_size=scrypt.R, parallelization=scrypt.P
                    ),
                ),
                encryption=_Encryption(algorithm=_AES256_CBC, iv=iv),
            ),
        ),
        data=encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize(),
    )
    lines = textwrap.wrap(base64.b64encode(asn1.encode_der(info)).decode(), 64)
    return "\n".join((_BEGIN, *lines, _END, "")).encode()


def is_whole(pem: bytes) -> bool:
    """Whether `pem` is an encrypted key, by whatever scheme, as far as one sees without its passphrase."""
    words = " ".join(pem.decode("ascii", "replace").split())
    if not (words.startswith(_BEGIN) and words.endswith(_END)):
        return False
    try:
        der = base64.b64decode(words[len(_BEGIN) : -len(_END)].replace(" ", ""), validate=True)
        asn1.decode_der(_AnyEncryptedPrivateKeyInfo, der)
    except ValueError:
        return False
    return True
