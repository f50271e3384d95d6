"""Host and node agree: what the node writes the host reads, and both read the same from damaged flash."""

import json
import random
import subprocess
from pathlib import Path

import pytest

from host_tools import micropython, paths
from host_tools.spool.ring import decode
from tests.host.spool_vectors import CASES, SECTOR, as_vector, partition

ROUNDS = 150
NODE = "n01"

# Reads as tests/firmware/test_spool_vectors.py does. Arguments: folders for sys.path, then the cases.
ON_NODE = """
import json, sys
sys.path[:] = sys.argv[1:-1] + [".frozen"]
from test_spool_vectors import differences
with open(sys.argv[-1]) as file:
    cases = json.load(file)
for case in cases:
    for each in differences(case):
        print(each)
print(len(cases), "read")
"""


# Writes to the file of its last argument what tests below expect there, and prints what its own reader tells.
WRITER = """
import json, sys
sys.path[:] = sys.argv[1:-1] + [".frozen"]
from limpet.spool import Spool
from test_spool_vectors import items

class FileFlash:
    def __init__(self, path, count):
        self.file = open(path, "w+b")
        self.count = count
        self.file.write(bytes([255]) * (4096 * count))

    def readblocks(self, block, buf, offset=0):
        self.file.seek(block * 4096 + offset)
        self.file.readinto(buf)

    def writeblocks(self, block, buf, offset):
        old = bytearray(len(buf))
        self.readblocks(block, old, offset)
        assert all(a & b == b for a, b in zip(old, buf)), "sets bits"
        self.file.seek(block * 4096 + offset)
        self.file.write(buf)

    def ioctl(self, op, arg):
        if op == 6:
            self.file.seek(arg * 4096)
            self.file.write(bytes([255]) * 4096)
        return {4: self.count, 5: 4096, 6: 0}[op]

flash = FileFlash(sys.argv[-1], 4)
CHANNELS = [("bme280/temperature", "Cel", 2, 0, 0, 1000), ("wind/speed", "m/s", 1, 0, 0, 1000)]
T0 = 1_800_000_000_000

def boot(channels, **options):
    spool = Spool(flash, "n01")
    spool.start(channels, **options)
    return spool

spool = boot(CHANNELS)
for i in range(400):
    if i == 10:
        spool.mark(T0, 2)
    spool.append(i, i % 1000, i % 2, 6 if i % 50 == 7 else 0, i - 200)
spool.ack(300)
spool = boot(CHANNELS, batch=4, batch_ms=60000)
for i in range(10):
    spool.append(i, 999, 0, 0, -i)
spool.flush()
spool = boot(CHANNELS[1:], offset_ms=T0 + 5_000_000, trust=1)
spool.append(3, 0, 0, 0, 77)
spool.mark(T0 + 5_000_500, 2)
for i in range(600):
    spool.append(4 + i, 500, 0, 0, i)
    spool.ack(i)
spool.mark(T0 + 5_000_530, 3)
spool.append(700, 1, 0, 0, 1)
spool.flush()
known = (spool.epoch, spool.boot, spool.cursor, spool.first, spool.next, spool.capacity)
flash.file.flush()
spool = Spool(flash, "n01")
print(json.dumps([known, spool.cursor, spool.proof, items(spool)]))
"""


def on_node(script: str, folder: Path, argument: Path) -> str:
    """Run a script in MicroPython with the firmware at hand; what it prints."""
    (folder / "script.py").write_text(script)
    folders = [paths.FIRMWARE, paths.VIRTUAL_BOARD, paths.ROOT / "tests" / "firmware"]
    words = [*micropython.command(), "-X", "heapsize=16m", folder / "script.py", *folders, argument]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_what_the_node_writes(tmp_path: Path) -> None:
    known, cursor, proof, items = json.loads(on_node(WRITER, tmp_path, tmp_path / "spool.bin"))
    spool = decode((tmp_path / "spool.bin").read_bytes(), NODE)
    assert [as_vector(item) for item in spool.items] == items
    assert [f"{spool.epoch:08x}", spool.boot] == known[:2]
    assert [spool.first, spool.next, spool.capacity] == known[3:]
    # The flash learns of acknowledgements now and then.
    assert known[2] - 64 < spool.cursor <= known[2]
    assert (spool.cursor, spool.proof) == (cursor, proof)
    assert (spool.next, spool.damaged, spool.gaps) == (400 + 10 + 602, 0, ())
    assert spool.wear is not None and spool.wear[1] >= 2, "it went round"
    t0 = 1_800_000_000_000
    last = spool.readings[-3:]
    assert [(each.value, each.unix_ms, str(each.quality)) for each in last] == [
        (598, t0 + 5_000_500 + 602_500, "synced"),
        (599, t0 + 5_000_500 + 603_500, "synced"),
        (1, t0 + 5_000_530 + 700_001, "holdover"),
    ]
    assert last[0].channel.name == "wind/speed"


def damaged(chance: random.Random) -> tuple[str, list[bytes]]:
    """A vector's sectors after some accidents, and what was done to them."""
    case = chance.choice(CASES)
    image = partition(case)
    sectors = [bytearray(image[at : at + SECTOR]) for at in range(0, len(image), SECTOR)]
    done = [case["name"]]
    for _ in range(chance.choice([1, 1, 2, 3, 8])):
        place = chance.randrange(len(sectors))
        sector = sectors[place]
        used = [at for at in range(0, SECTOR, 16) if sector[at : at + 16] != b"\xff" * 16] or [0]
        at = chance.choice(used) + chance.randrange(16)
        match accident := chance.choice(["flip", "flip", "flip", "noise", "wipe", "clear", "swap"]):
            case "flip":
                sector[at] ^= 1 << chance.randrange(8)
            case "noise":
                sector[at : at + 40] = chance.randbytes(len(sector[at : at + 40]))
            case "wipe":
                sector[at:] = b"\xff" * (SECTOR - at)
            case "clear":
                sector[:at] = bytes(at)
            case "swap":
                chance.shuffle(sectors)
        done.append(f"{accident} {place}:{at}")
    return ", ".join(done), [bytes(sector) for sector in sectors]


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_spools(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    cases = []
    for _ in range(ROUNDS):
        name, sectors = damaged(chance)
        spool = decode(b"".join(sectors), NODE)
        # Not cursor and proof: of these the node reads the headers' and the newest sector's alone.
        cases.append(
            {
                "name": name,
                "node": NODE,
                "sectors": [[[0, each.rstrip(b"\xff").hex()]] for each in sectors],
                "epoch": None if spool.epoch is None else f"{spool.epoch:08x}",
                "boot": spool.boot,
                "first": spool.first,
                "next": spool.next,
                "damaged": spool.damaged,
                "items": [as_vector(item) for item in spool.items],
            }
        )
    assert any(case["damaged"] for case in cases) and any(case["items"] for case in cases)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    assert on_node(ON_NODE, tmp_path, tmp_path / "cases.json") == f"{ROUNDS} read\n"
