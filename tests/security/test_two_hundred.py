"""Promise 1: many nodes, whose keys are born on them, and nothing of one that another has too."""

import base64
import itertools
import json
import os
import subprocess
from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_private_key

from host_tools import micropython
from host_tools.ca import CertificateAuthority
from host_tools.errors import LimpetError, RefusedError
from host_tools.fleet import Fleet
from host_tools.paths import FIRMWARE
from host_tools.pki import partition
from tests.security.ground import new_authority, unlock

COUNT = 200

# Each node is a flash of its own in a file; what is called to make the identity is the firmware's.
NODES = """
import binascii, json, os, sys
from limpet import enrol

class Flash:
    def __init__(self, path):
        self.path = path
        try:
            with open(path, "rb") as file:
                self.data = bytearray(file.read())
        except OSError:
            self.data = bytearray(b"\\xff" * 0x4000)
    def readblocks(self, block, buffer, offset=0):
        at = block * 4096 + offset
        buffer[:] = self.data[at : at + len(buffer)]
    def writeblocks(self, block, buffer, offset=0):
        at = block * 4096 + offset
        for i, byte in enumerate(buffer):
            self.data[at + i] &= byte
    def ioctl(self, op, block):
        if op == 6:
            self.data[block * 4096 : (block + 1) * 4096] = b"\\xff" * 4096
        return 4 if op == 4 else 4096 if op == 5 else 0
    def save(self):
        with open(self.path, "wb") as file:
            file.write(self.data)

from esp32 import Partition
folder = sys.argv[1]
for line in sys.stdin:
    order = json.loads(line)
    Partition.flash = Flash(folder + "/" + order["node"] + ".bin")
    if "fields" in order:
        fields = binascii.a2b_base64(order["fields"])
        for at in range(0, len(fields), 200):
            enrol.put(at, fields[at : at + 200])
        print(enrol.commit(len(fields), binascii.crc32(fields)))
    else:
        print(binascii.b2a_base64(enrol.request(order["node"])).decode().strip())
    Partition.flash.save()
"""
ESP32 = """
class Partition:
    TYPE_DATA = 1
    flash = None
    @classmethod
    def find(cls, type=1, subtype=255, label=None, block_size=None):
        return [cls.flash]
"""
NETWORK = """
class WLAN:
    IF_STA = 0
    def __init__(self, interface):
        pass
    def active(self, on=None):
        return True  # it is warm: 200 waits less
"""


def on_nodes(folder: Path, orders: Sequence[dict[str, str]]) -> list[str]:
    """What nodes answer to these orders, each on its own flash."""
    modules = folder / "modules"
    modules.mkdir(exist_ok=True)
    for name, text in {"nodes": NODES, "esp32": ESP32, "network": NETWORK}.items():
        (modules / f"{name}.py").write_text(text)
    done = subprocess.run(
        [*micropython.command(), "-X", "heapsize=4m", str(modules / "nodes.py"), str(folder)],
        input="".join(json.dumps(each) + "\n" for each in orders),
        env=os.environ | {"MICROPYPATH": f"{modules}:.frozen:{FIRMWARE}"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    return done.stdout.splitlines()


@pytest.mark.security(
    1, "IEC 62443-4-2 CR 1.2 RE 1", "IEC 62443-4-2 CR 1.4", "IEC 62443-4-2 CR 1.5", "ETSI EN 303 645 5.4-4"
)
def test_two_hundred_nodes_share_nothing(tmp_path: Path) -> None:
    """Of 200 nodes that made their keys themselves, and were signed and recorded, none shares a key, a nonce,
    a certificate, a serial number, an id or a topic with another."""
    folder = tmp_path
    macs = [f"24:0a:c4:00:00:{number:02x}" for number in range(COUNT)]
    with (
        Fleet(folder / "fleet.db") as fleet,
        CertificateAuthority.open(new_authority(folder), unlock()) as authority,
    ):
        ids = [fleet.claim_next(mac, "line3-{n:03}") for mac in macs]
        requests = [base64.b64decode(each) for each in on_nodes(folder, [{"node": each} for each in ids])]
        issued = [
            authority.issue_node(request, node_id) for request, node_id in zip(requests, ids, strict=True)
        ]
        orders = [
            {
                "node": each.node_id,
                "fields": base64.b64encode(
                    partition.certificate_fields((each.der, *authority.chain), authority.trusted)
                ).decode(),
            }
            for each in issued
        ]
        assert on_nodes(folder, orders) == [each.fingerprint for each in issued]
        with pytest.raises(RefusedError, match=r"is the node .line3-001. already"):
            fleet.claim(macs[0], ids[1])
        with pytest.raises(LimpetError, match="not for the node 'someone-else'"):
            authority.issue_node(requests[0], "someone-else")

    flashes = [partition.decode((folder / f"{node_id}.bin").read_bytes()).identity for node_id in ids]
    keys = [load_der_private_key(each.key, None) for each in flashes]
    numbers = [key.private_numbers() for key in keys if isinstance(key, ec.EllipticCurvePrivateKey)]
    certificates = [x509.load_der_x509_certificate(each.chain[0]) for each in flashes]
    asked = [x509.load_der_x509_csr(each) for each in requests]
    assert [each.node_id for each in flashes] == ids
    assert [each.public_key() for each in certificates] == [key.public_key() for key in keys]
    everything: dict[str, Sequence[Hashable]] = {
        "private keys": [each.private_value for each in numbers],
        "the upper halves of private keys": [each.private_value >> 128 for each in numbers],
        "the lower halves of private keys": [each.private_value & (1 << 128) - 1 for each in numbers],
        "public keys": [each.public_numbers.x for each in numbers],
        "nonces of signatures": [decode_dss_signature(each.signature)[0] for each in asked],
        "serial numbers": [each.serial_number for each in certificates],
        "certificates": [each.chain[0] for each in flashes],
        "subjects": [each.subject for each in certificates],
        "ids": ids,
        "topics": [f"limpet/{node_id}/" for node_id in ids],
    }
    for what, values in everything.items():
        assert len(values) == len(set(values)) == COUNT, f"{what} repeat"
    topics = sorted(f"limpet/{node_id}/" for node_id in ids)
    assert not any(b.startswith(a) for a, b in itertools.pairwise(topics)), "one within another"
