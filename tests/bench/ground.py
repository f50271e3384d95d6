"""What the figures stand on: byte code, a broker with certificates, and MicroPython to run scripts."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from host_tools import image, micropython, paths
from tests.bench import peers
from tests.host.stand import Stand

SCRIPTS = Path(__file__).parent / "node"
_SECONDS = 120  # for one script; many times what it takes


class Ground:
    """`stand` has the broker. Scripts find the identity of a node, as DER, in the folder `identity`."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.folder = stand.folder
        self.firmware = _firmware(self.folder / "firmware")
        self.peers = peers.byte_code(self.folder / "peers")
        self.identity = self.folder / "identity"
        self.identity.mkdir()
        node = stand.authority.issue_node("bench")
        ca = stand.authority.certificate.public_bytes(Encoding.DER)
        for name, der in (("node.der", node.chain[0]), ("node.key.der", node.key), ("ca.der", ca)):
            (self.identity / name).write_bytes(der)

    def start(
        self, script: str, *words: object, heap: str = "1m", board: bool = False
    ) -> subprocess.Popen[str]:
        """One of our scripts in MicroPython; firmware, peers, and the board's modules if it wants them, are
        there to import."""
        # MicroPython keeps the names of files, so what it loads is named as shortly as on a node.
        ours = [each.relative_to(self.folder) for each in (self.firmware, self.peers)]
        search = [*ours, SCRIPTS, *([paths.VIRTUAL_BOARD] if board else [])]
        return subprocess.Popen(
            [*micropython.command(), "-X", f"heapsize={heap}", str(SCRIPTS / script), *map(str, words)],
            cwd=self.folder,
            env=os.environ | {"MICROPYPATH": ":".join([*map(str, search), ".frozen"])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, *words: object, heap: str = "1m") -> Any:
        """What the script has printed as JSON in its last line."""
        return result(self.start(script, *words, heap=heap))


def result(process: subprocess.Popen[str]) -> Any:
    """Wait for a script, and give what its last line says in JSON."""
    return json.loads(output(process).splitlines()[-1])


def output(process: subprocess.Popen[str]) -> str:
    """Wait for a script, and give what it has printed."""
    try:
        said, _ = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise SystemExit(f"A script of the benchmark hangs:\n{process.communicate()[0]}") from None
    if process.returncode or "Traceback" in said:
        raise SystemExit(f"A script of the benchmark failed:\n{said}")
    return said


def _firmware(folder: Path) -> Path:
    for name, data in image.firmware_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
