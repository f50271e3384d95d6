"""esp32.Partition of the virtual board: NOR flash, with the errors of the ESP32 port."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import partitions
from host_tools.virtual.bench import Bench
from host_tools.virtual.board import How, PowerCut
from tests.host.stand import wait_until
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


# Power cuts. A board of its own each: it has to be off and on again.


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Rig]:
    with Bench() as bench:
        yield Rig(bench, tmp_path / "flash.bin")


WRITES = """
print('be' + 'gin')
p.writeblocks(3, b'\\x00' * 64, 0)
p.ioctl(6, 3)
p.writeblocks(3, b'\\x55' * 64, 0)
print('the ' + 'end')
"""


def cut(rig: Rig, operation: int, how: How, seed: int = 0) -> None:
    """Have the power fail in WRITES, and see that it did."""
    rig.power_off()
    in_spool = PowerCut(operation, how, seed, start=SPOOL.offset, end=SPOOL.end)
    rig.bench.run(rig.board.power_on(in_spool))
    since = rig.last_words(SETUP + WRITES)
    wait_until(lambda: not rig.board.is_on, "the power cut")
    assert rig.board.pid is None
    assert "begin" in rig.log[since:]
    assert "the end" not in rig.log[since:]


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [(1, b"\xff", b"\x00"), (2, b"\x00", b"\xff"), (3, b"\xff", b"\x55")],
)
def test_power_fails_before_or_after_an_operation(
    own: Rig, operation: int, before: bytes, after: bytes
) -> None:
    cut(own, operation, "before")
    assert spool(own, 3 * 4096, 64) == before * 64
    own.power_on()
    own.run(SETUP + "p.ioctl(6, 3)")  # this time it does not fail
    cut(own, operation, "after")
    assert spool(own, 3 * 4096, 64) == after * 64


def test_power_fails_in_the_middle_of_an_operation(own: Rig) -> None:
    seen = set()
    for seed in range(6):
        cut(own, 3, "torn", seed)
        seen.add(spool(own, 3 * 4096, 64))
        assert all(byte | 0x55 == byte for byte in spool(own, 3 * 4096, 64))  # nothing else was cleared
        assert spool(own, 3 * 4096 + 64, 4096 - 64) == b"\xff" * (4096 - 64)
    assert len(seen) > 3
    sectors = set()
    for seed in range(6):
        cut(own, 2, "torn", seed)
        sectors.add(spool(own, 3 * 4096, 4096))
    assert len(sectors) > 3
    own.power_on()
    assert own.eval("1 + 1") == 2


def test_the_count_begins_again_at_a_reset_and_ends_with_the_power(own: Rig) -> None:
    own.power_off()
    third = PowerCut(3, "before", start=SPOOL.offset, end=SPOOL.end)
    own.bench.run(own.board.power_on(third))
    for _ in range(3):  # twice two operations, and a soft reset each
        own.run(SETUP + "p.ioctl(6, 3)\np.writeblocks(3, b'abc', 0)\n")
        since = own.last_words("import machine\nmachine.reset()")
        own.says("SW_CPU_RESET", since)
    assert own.board.is_on
    own.power_off()
    own.power_on()
    own.run(SETUP + WRITES)
    assert spool(own, 3 * 4096, 64) == b"\x55" * 64


def test_flash_counts_and_a_cut_flash_does_nothing_more(own: Rig) -> None:
    script = """
from io import BytesIO
from _flash import Flash, PowerCut
file = BytesIO(bytes(8192))
flash = Flash(file)
flash.erase(0, 8192)
flash.program(250, bytes(300))  # pages of 256: three operations
flash.read(0, bytearray(10))
counts = flash.erases, flash.programs, flash.bytes_programmed, flash.bytes_read
flash.cut_power(2, 'after', start=4096)
flash.program(0, b'a')  # outside of the range
flash.program(4096, b'b')
seen = []
for action in (lambda: flash.program(4097, b'c'), lambda: flash.program(4098, b'd'),
               lambda: flash.erase(0), lambda: flash.read(0, bytearray(1))):
    try:
        try:
            action()
        except Exception:
            seen.append('error')
    except PowerCut:
        seen.append('cut')
for wrong in ((0, 'after'), (1, 'later')):
    try:
        flash.cut_power(*wrong)
    except ValueError:
        seen.append('wrong')
print((counts, seen, file.getvalue()[4096:4100]))
"""
    counts, seen, data = ast.literal_eval(own.run(script))
    assert counts == (2, 3, 300, 10)
    assert seen == ["cut"] * 4 + ["wrong"] * 2
    assert data == b"bc\xff\xff"


def test_a_torn_operation_is_any_part_of_it_and_nothing_else(own: Rig) -> None:
    script = """
from _flash import Dice, torn_erase, torn_program
old, new, ones = bytes(range(64)) * 4, bytes(256), b'\\xff' * 256
whole = prefix = suffix = clearing = setting = 0
for seed in range(300):
    program = torn_program(old, new, Dice(seed))
    assert all(a & b == a for a, b in zip(program, old)), seed
    assert program == torn_program(old, new, Dice(seed))
    whole += program == new
    changed = [i for i in range(256) if program[i] != old[i]]
    done = [i for i in range(256) if not program[i]]
    prefix += len(changed) > 9 and done[: len(changed) - 1] == list(range(len(changed) - 1))
    suffix += len(changed) > 9 and done[-len(changed) + 1 :] == list(range(257 - len(changed), 256))
    erase = torn_erase(old, ones, Dice(seed))
    cleared = any(a & b != b for a, b in zip(erase, old))
    is_set = any(a & b != a for a, b in zip(erase, old))
    clearing += cleared and not is_set
    setting += is_set and not cleared
    assert cleared or is_set or erase == old
print((whole, prefix, suffix, clearing, setting))
"""
    whole, prefix, suffix, clearing, setting = ast.literal_eval(own.run(script))
    assert whole < 10
    assert prefix > 30
    assert suffix > 30
    assert clearing > 50
    assert setting > 50
