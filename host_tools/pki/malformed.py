"""What the cryptography library raises for a certificate, a request or a CRL that is malformed."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""Some of it comes only when a part is looked at, for the library decodes as it is asked."""
