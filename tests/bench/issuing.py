"""How many certificates the authority issues in a second, beside signatures alone."""

import time

from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.ca import CertificateAuthority
from host_tools.pki import profiles
from tests.bench.ground import Ground
from tests.bench.table import Row, number
from tests.host.authorities import request, unlock

_COUNT = 500
_NOTE = (
    f"One process, {_COUNT} nodes one after the other: the request is checked, the certificate signed, its "
    "line sealed and written to the ledger, its file and the ledger's head written, each on the disk (fsync) "
    "before the next step. The passphrase was tried once, before. The signature alone is made in memory."
)


def rows(ground: Ground) -> list[Row]:
    folder = ground.folder / "authority"
    CertificateAuthority.init(folder, unlock(), ground.folder / "authority.backup")
    requests = [(f"n{i}", request(f"n{i}")) for i in range(_COUNT)]
    with CertificateAuthority.open(folder, unlock()) as ca:
        began = time.perf_counter()
        for node_id, asked in requests:
            ca.issue_node(asked, node_id)
        issued = _COUNT / (time.perf_counter() - began)
        signer = ca.signer(ca.state.issuing)
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    began = time.perf_counter()
    for node_id, _ in requests:
        profiles.node(signer, node_id, public, profiles.utc_now())
    signed = _COUNT / (time.perf_counter() - began)
    return [
        Row(
            "certificates issued",
            issued,
            "a second",
            f"signed alone, in memory: {number(signed)} a second",
            issued / signed,
            note=_NOTE,
        )
    ]
