"""Certificate signing requests (PKCS#10, RFC 2986): what is asked for is checked before it is signed."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from host_tools.errors import LimpetError
from host_tools.pki.malformed import MALFORMED
from host_tools.pki.names import check_node_id

_LARGEST = 4096  # bytes; a node's request has about 220
_AGAIN = "let the node make a new request"


def check_request(data: bytes, node_id: str) -> ec.EllipticCurvePublicKey:
    """The public key of a request, DER or PEM, by which the node called `node_id` asks for its certificate.

    The request's signature proves that who made it has the private key. Its subject must be the node id as
    common name and nothing else; extensions that it asks for do not count.
    Raises LimpetError for anything else: bytes that are no request, another curve, a wrong signature or name.
    """
    check_node_id(node_id)
    request = _load(data)
    try:
        public = request.public_key()
        names = [(name.oid, name.value) for name in request.subject]
        algorithm = request.signature_algorithm_oid
        is_signed = request.is_signature_valid
    except MALFORMED:
        raise LimpetError(
            f"The certificate request of node {node_id} is malformed inside: {_AGAIN}."
        ) from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise LimpetError(
            f"The certificate request of node {node_id} has no key on the curve P-256: {_AGAIN}."
        )
    if algorithm != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise LimpetError(
            f"The certificate request of node {node_id} is not signed by ECDSA with SHA-256: {_AGAIN}."
        )
    if not is_signed:
        raise LimpetError(
            f"The signature of the certificate request of node {node_id} is wrong, so it was altered on its "
            f"way or its key is another's: {_AGAIN}."
        )
    if names != [(NameOID.COMMON_NAME, node_id)]:
        bears = ", ".join(f"{value!r}" for _, value in names) or "no name"
        raise LimpetError(
            f"The certificate request is for {bears}, and not for the node {node_id!r} alone: "
            "ask that node, or name the one that it is for."
        )
    return public


def _load(data: bytes) -> x509.CertificateSigningRequest:
    if len(data) <= _LARGEST:
        try:
            if data.lstrip().startswith(b"-----BEGIN"):
                return x509.load_pem_x509_csr(data)
            return x509.load_der_x509_csr(data)
        except MALFORMED:
            pass  # the library's words are about ASN.1; the user's remedy is the same for all of them
    raise LimpetError(f"These {len(data)} bytes are no certificate request in DER or PEM: {_AGAIN}.")
