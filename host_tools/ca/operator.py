"""A credential for whoever is at work now: an hour's, in a folder that goes with the `with` block."""

from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509

from host_tools.ca.authority import CertificateAuthority
from host_tools.pki import files
from host_tools.pki.credential import pem
from host_tools.scratch import scratch_folder
from host_tools.telemetry.subscriber import TlsFiles

_STEM = "operator"


@contextmanager
def operator(authority: CertificateAuthority) -> Iterator[TlsFiles]:
    """The files by which a client is the operator to a broker of this authority, for an hour from now on.

    Raises LimpetError if they cannot be made, or another process is the operator.
    """
    with authority.folder.one_operator(), scratch_folder(_STEM) as folder:
        trusted = folder / "trusted.crt"
        files.write_private(trusted, pem(*map(x509.load_der_x509_certificate, authority.trusted)))
        authority.issue_client("operator").save(folder, _STEM)
        yield TlsFiles(trusted, folder / f"{_STEM}.crt", folder / f"{_STEM}.key")
