"""esp32.Partition of the virtual board: NOR flash, with the errors of the ESP32 port."""

from collections.abc import Iterator

import pytest

from host_tools import partitions
from host_tools.virtual.bench import Bench
from tests.host.virtual_rig import BOARD, Rig

SPOOL = partitions.find(BOARD.partition_table(), "spool")
SETUP = """
from esp32 import Partition
p = Partition.find(Partition.TYPE_DATA, label='spool')[0]
def error(call, *args):
    try:
        return call(*args)
    except (OSError, ValueError) as e:
        return (type(e).__name__,) + e.args
def read(block, n, offset=0):
    buf = bytearray(n)
    p.readblocks(block, buf, offset)
    return bytes(buf)
"""


@pytest.fixture(scope="module")
def whole_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Bench() as bench:
        yield Rig(bench, tmp_path_factory.mktemp("flash") / "flash.bin")


@pytest.fixture
def rig(whole_rig: Rig) -> Iterator[Rig]:
    """A rig whose flash is changed in the spool alone."""
    before = whole_rig.flash.read_bytes()
    whole_rig.run(SETUP + "for i in range(8): p.ioctl(6, i)")
    yield whole_rig
    after = whole_rig.flash.read_bytes()
    assert after[: SPOOL.offset] == before[: SPOOL.offset]
    assert after[SPOOL.end :] == before[SPOOL.end :]


def spool(rig: Rig, start: int, length: int) -> bytes:
    return rig.flash.read_bytes()[SPOOL.offset + start :][:length]


def test_finding_partitions(rig: Rig) -> None:
    assert rig.eval("p.info()") == (1, 0x41, SPOOL.offset, SPOOL.size, "spool", False)
    assert rig.eval("repr(p)") == (
        f"<Partition type=1, subtype=65, address={SPOOL.offset}, size={SPOOL.size}, label=spool, encrypted=0>"
    )
    assert rig.eval("[q.info()[4] for q in Partition.find()]") == ["factory"]
    assert rig.eval("[q.info()[4] for q in Partition.find(Partition.TYPE_DATA)]") == [
        "nvs",
        "phy_init",
        "identity",
        "spool",
        "vfs",
    ]
    assert rig.eval("[q.info()[4] for q in Partition.find(Partition.TYPE_DATA, 0x40)]") == ["identity"]
    assert rig.eval("Partition.find(Partition.TYPE_DATA, label='none')") == []
    assert rig.eval("Partition('spool').info() == p.info()") is True
    assert rig.eval("Partition(Partition.RUNNING).info()[4]") == "factory"
    assert rig.eval("error(Partition, 'none')") == ("OSError", 2)
    assert rig.eval("error(Partition, 7)") == ("ValueError",)


def test_ioctl(rig: Rig) -> None:
    assert rig.eval("[p.ioctl(op, 0) for op in (1, 2, 3, 4, 5)]") == [0, 0, 0, SPOOL.size // 4096, 4096]
    assert rig.eval("p.ioctl(99, 0)") is None
    assert rig.eval("p.ioctl(6, 3)") == 0


def test_programming_needs_no_erase_at_any_offset_and_length(rig: Rig) -> None:
    rig.run("p.writeblocks(1, b'odd', 0)\np.writeblocks(1, b'length', 1001)\np.writeblocks(1, b'ab', 4095)")
    assert spool(rig, 4096, 4) == b"odd\xff"
    assert rig.eval("read(1, 6, 1001)") == b"length" == spool(rig, 4096 + 1001, 6)
    assert rig.eval("read(1, 2, 4095)") == b"ab"  # across the end of a block
    assert rig.eval("read(1, 5, 1)") == b"dd\xff\xff\xff"


def test_programming_only_clears_bits(rig: Rig) -> None:
    rig.run("p.writeblocks(0, b'\\xf0', 10)\np.writeblocks(0, b'\\x30', 10)\np.writeblocks(0, b'\\x30', 10)")
    assert spool(rig, 10, 1) == b"\x30"
    answer = rig.eval("error(p.writeblocks, 0, b'\\x31', 10)")
    assert answer[0] == "FlashViolation"
    assert f"0x{SPOOL.offset + 10:x}" in answer[1]
    assert spool(rig, 10, 1) == b"\x30"
    # A violation is an OSError, so that what catches errors of the flash catches it.
    assert (
        rig.run("try:\n    p.writeblocks(0, b'\\xff', 10)\nexcept OSError:\n    print('caught')")
        == "caught\n"
    )


def test_erase_sets_one_block_to_ones(rig: Rig) -> None:
    rig.run("for i in (1, 2, 3): p.writeblocks(i, b'\\0' * 4096, 0)\np.ioctl(6, 2)")
    assert spool(rig, 4096, 3 * 4096) == b"\0" * 4096 + b"\xff" * 4096 + b"\0" * 4096


def test_the_simple_interface_erases_for_itself(rig: Rig) -> None:
    rig.run("p.writeblocks(2, b'\\0' * 4096, 0)\np.writeblocks(2, b'\\x55' * 4096)")
    assert spool(rig, 2 * 4096, 4096) == b"\x55" * 4096
    assert rig.eval("error(p.writeblocks, 2, b'\\0' * 100)") == ("OSError", -0x104, "ESP_ERR_INVALID_SIZE")
    assert spool(rig, 2 * 4096, 4096) == b"\x55" * 4096


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("read, 128, 1", 0x104),
        ("read, 127, 2, 4095", 0x104),
        ("read, 129, 1", 0x102),
        ("read, -1, 1", 0x102),
        ("p.writeblocks, 128, b'x', 0", 0x104),
        ("p.ioctl, 6, 128", 0x104),
    ],
)
def test_outside_of_the_partition(rig: Rig, call: str, number: int) -> None:
    assert rig.eval(f"error({call})")[:2] == ("OSError", -number)
