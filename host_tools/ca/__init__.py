"""The certificate authority of a project: its folder, its keys, its ledger."""

from host_tools.ca.authority import CertificateAuthority
from host_tools.ca.inspection import Public, audit, public
from host_tools.ca.state import Issued

__all__ = ["CertificateAuthority", "Issued", "Public", "audit", "public"]
