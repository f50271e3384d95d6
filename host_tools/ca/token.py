"""Keys that stay in a PKCS#11 token (a hardware security module, a smart card, SoftHSM), and sign there."""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    PrivateFormat,
    load_der_public_key,
)

from host_tools.ca import token_uri
from host_tools.ca.deadline import within
from host_tools.ca.passphrase import Unlock
from host_tools.ca.token_uri import TokenUri
from host_tools.errors import LimpetError, RefusedError

_DEADLINE = 60.0  # seconds for one answer of a token
_P256 = bytes.fromhex(
    "06082a8648ce3d030107"
)  # the curve's object identifier in DER (RFC 5480, section 2.1.1.1)
_COORDINATE = 32  # bytes of each of a signature's two numbers
_T = TypeVar("_T")


def create(uri: str, purpose: str, unlock: Unlock) -> tuple[ec.EllipticCurvePrivateKey, str]:
    """A key for `purpose` in the token of `uri`, and the URI of exactly that key.

    If the URI names an object and the token has it, that is the key; else one is made, which cannot be taken
    out. Raises RefusedError for a wrong PIN or a key that can be taken out, LimpetError if the module, the
    token or the key is not there.
    """
    where = token_uri.parse(uri)
    session = _open(where, unlock, write=True)
    named = where.object is not None or where.id is not None
    with _told(where):
        found = _find(session, where) if named else []
        if not found:
            label = where.object or f"limpet {purpose} {secrets.token_hex(4)}"
            found = [_generate(session, where, label, where.id or secrets.token_bytes(8))]
        where, key = _chosen(session, where, found)
        _check_kept_inside(where, found[0])
    return key, str(where)


def load(uri: str, unlock: Unlock) -> ec.EllipticCurvePrivateKey:
    """The key that `uri` names, which asks its token to sign.

    Raises RefusedError for a wrong PIN, LimpetError if the module, the token or the key is not there.
    """
    where = token_uri.parse(uri)
    session = _open(where, unlock, write=False)
    with _told(where):
        return _chosen(session, where, _find(session, where))[1]


class TokenKey(ec.EllipticCurvePrivateKey):
    """A private key on P-256 in a token, for whatever signs with one of the cryptography library's."""

    def __init__(self, where: TokenUri, handle: Any, public: ec.EllipticCurvePublicKey) -> None:
        self._where = where
        self._handle = handle
        self._public = public

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """The signature of `data` in DER. The token gets the digest alone.

        Raises LimpetError if the token fails, or if what it gives is not a signature by this key.
        """
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed):
            digest = bytes(data)
        else:
            digest = hashlib.new(algorithm.name, data).digest()
        with _told(self._where):
            raw = _asked(self._where, lambda: self._handle.sign(digest, mechanism=_library().Mechanism.ECDSA))
        numbers = (int.from_bytes(raw[:_COORDINATE]), int.from_bytes(raw[_COORDINATE:]))
        signature = encode_dss_signature(*numbers)
        try:
            self._public.verify(signature, bytes(data), signature_algorithm)
        except InvalidSignature:
            raise LimpetError(
                f"What the {self._where.name} signed does not fit the public key "
                f"'{self._where.object}' in it: see which objects bear that name."
            ) from None
        return signature

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """256 bits."""
        return self._public.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Not for a key that signs."""
        self._stays()

    def private_numbers(self) -> NoReturn:
        """They stay in the token."""
        self._stays()

    def private_bytes(
        self,
        encoding: Encoding,
        format: PrivateFormat,
        encryption_algorithm: KeySerializationEncryption,
    ) -> NoReturn:
        """They stay in the token."""
        self._stays()

    def __copy__(self) -> "TokenKey":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "TokenKey":
        return self

    def __repr__(self) -> str:
        return f"TokenKey({self._where.object!r} in the {self._where.name})"

    def _stays(self) -> NoReturn:
        raise LimpetError(
            f"The key '{self._where.object}' stays in the {self._where.name}; it only signs there."
        )


def _library() -> ModuleType:
    try:
        import pkcs11
    except ImportError:
        raise LimpetError(
            "Keys in a token need the library python-pkcs11: install it with 'pip install limpet[pkcs11]'."
        ) from None
    return pkcs11


def _open(where: TokenUri, unlock: Unlock, *, write: bool) -> Any:
    library = _library()
    token = _asked(where, lambda: _token(where))
    pin = unlock.pin(where.name).decode()
    try:
        with _told(where):
            try:
                return _asked(where, lambda: token.open(rw=write, user_pin=pin))
            except library.exceptions.UserAlreadyLoggedIn:  # by another key of this process
                return _asked(where, lambda: token.open(rw=write))
    except RefusedError:
        unlock.forget()
        raise


def _token(where: TokenUri) -> Any:
    library = _library()
    try:
        module = library.lib(where.module)
    except library.exceptions.PKCS11Error:
        raise LimpetError(
            f"The token's library {where.module} cannot be loaded: see that it is there, "
            "is a PKCS#11 module, and is made for this machine."
        ) from None
    with _told(where):
        wanted = (where.token, where.serial, where.manufacturer, where.model)
        tokens = []
        for each in module.get_tokens():
            has = (each.label, each.serial.decode(errors="replace"), each.manufacturer_id, each.model)
            if all(want is None or want == have for want, have in zip(wanted, has, strict=True)):
                tokens.append(each)
    if len(tokens) != 1:
        found = "has no token" if not tokens else f"has {len(tokens)} tokens"
        remedy = "plug it in, or mend the URI" if not tokens else "add 'serial=' to the URI"
        raise LimpetError(f"The module {where.module} {found} like the {where.name}: {remedy}.")
    return tokens[0]


def _find(session: Any, where: TokenUri) -> list[Any]:
    library = _library()
    wanted = {library.Attribute.CLASS: library.ObjectClass.PRIVATE_KEY}
    return _asked(where, lambda: list(session.get_objects(wanted | _name(where))))


def _name(where: TokenUri) -> dict[Any, Any]:
    attribute = _library().Attribute
    name = {attribute.LABEL: where.object, attribute.ID: where.id}
    return {each: value for each, value in name.items() if value is not None}


def _generate(session: Any, where: TokenUri, label: str, identifier: bytes) -> Any:
    library = _library()
    inside = {
        library.Attribute.SENSITIVE: True,
        library.Attribute.EXTRACTABLE: False,
        library.Attribute.SIGN: True,
        library.Attribute.DERIVE: False,
    }

    def generate() -> Any:
        parameters = session.create_domain_parameters(
            library.KeyType.EC, {library.Attribute.EC_PARAMS: _P256}, local=True
        )
        pair = parameters.generate_keypair(
            id=identifier,
            label=label,
            store=True,
            public_template={library.Attribute.VERIFY: True},
            private_template=inside,
        )
        return pair[1]

    return _asked(where, generate)


def _chosen(session: Any, where: TokenUri, found: list[Any]) -> tuple[TokenUri, TokenKey]:
    """The one key that was found, with the URI that names it."""
    if not found:
        raise LimpetError(f"There is no key '{where.object}' in the {where.name}: mend the URI.")
    if len(found) > 1:
        raise LimpetError(
            f"There are {len(found)} keys in the {where.name} that it may mean: "
            "add 'object=' or 'id=' to the URI."
        )
    attribute = _library().Attribute
    key = found[0]

    def named() -> TokenUri:
        return where.naming(key[attribute.LABEL], key[attribute.ID])

    exact = _asked(where, named)
    return exact, TokenKey(exact, key, _asked(where, lambda: _public(session, exact, key)))


def _public(session: Any, where: TokenUri, key: Any) -> ec.EllipticCurvePublicKey:
    library = _library()
    attribute = library.Attribute
    if key.key_type != library.KeyType.EC or key[attribute.EC_PARAMS] != _P256:
        raise LimpetError(
            f"The key '{where.object}' in the {where.name} is not on the curve P-256: make another."
        )
    wanted = {attribute.CLASS: library.ObjectClass.PUBLIC_KEY} | _name(where)
    halves = list(session.get_objects(wanted))
    if len(halves) != 1:
        raise LimpetError(
            f"The key '{where.object}' in the {where.name} has no public key of the same name and id "
            "beside it: put it there, or make another key."
        )
    public = load_der_public_key(library.util.ec.encode_ec_public_key(halves[0]))
    assert isinstance(public, ec.EllipticCurvePublicKey)  # of the curve that was looked at
    return public


def _check_kept_inside(where: TokenUri, key: Any) -> None:
    attribute = _library().Attribute
    if _asked(where, lambda: key[attribute.EXTRACTABLE] or not key[attribute.SENSITIVE]):
        raise RefusedError(
            f"The key '{where.object}' can be taken out of the {where.name}: "
            "leave 'object=' out of the URI, and one that cannot is made."
        )


def _asked(where: TokenUri, call: Callable[[], _T]) -> _T:
    return within(_DEADLINE, f"The {where.name}", call)


@contextmanager
def _told(where: TokenUri) -> Iterator[None]:
    """The library's errors as sentences; what they say themselves may hold what they were given."""
    errors = _library().exceptions
    try:
        yield
    except (errors.PinIncorrect, errors.PinInvalid, errors.PinLenRange):
        raise RefusedError(
            f"That is not the PIN of the {where.name}: try again, and mind that it allows few attempts."
        ) from None
    except errors.PinLocked:
        raise RefusedError(
            f"The {where.name} is locked after too many wrong PINs: its security officer can unlock it."
        ) from None
    except errors.UserAlreadyLoggedIn:
        raise
    except errors.PKCS11Error as error:
        raise LimpetError(
            f"The {where.name} did not do it ({type(error).__name__}): "
            "see that it is plugged in and has room, and try again."
        ) from None
