"""How the virtual board boots: what it finds in its flash, and what becomes of boot.py and main.py."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools import image, partitions
from host_tools.image.explain import explain
from host_tools.image.source import FileSource
from host_tools.virtual.bench import Bench
from tests.host.virtual_rig import BOARD, Rig, compose

VFS = partitions.find(BOARD.partition_table(), "vfs")
TABLE = slice(partitions.TABLE_OFFSET, partitions.TABLE_OFFSET + partitions.TABLE_SIZE)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def with_table(flash: bytes, table: list[partitions.Partition]) -> bytes:
    changed = bytearray(flash)
    changed[TABLE] = partitions.encode(table)
    return bytes(changed)


def test_the_partition_table_is_read_from_the_flash(bench: Bench, tmp_path: Path) -> None:
    table = [p for p in BOARD.partition_table() if p.name != "vfs"]
    moved = VFS.offset + 0x1000
    table += [
        partitions.Partition("extra", 1, 0x55, VFS.offset, 0x1000),
        partitions.Partition("vfs", 1, 0x81, moved, 0x100000, 1),
    ]
    flash = bytearray(with_table(compose(), table))
    flash[moved : moved + 0x100000] = image.filesystem({"main.py": b"print('moved')"}, 0x100000)
    rig = Rig(bench, tmp_path / "flash.bin", bytes(flash))
    rig.says("moved")
    found = rig.eval(
        "[p.info() for p in __import__('esp32').Partition.find(1) if p.info()[4] in ('extra', 'vfs')]"
    )
    assert found == [
        (1, 0x55, VFS.offset, 0x1000, "extra", False),
        (1, 0x81, moved, 0x100000, "vfs", True),
    ]
    assert rig.eval("__import__('os').statvfs('/')[:4]")[2] == 0x100


def test_nothing_of_the_host_is_visible(bench: Bench, tmp_path: Path) -> None:
    rig = Rig(bench, tmp_path / "flash.bin", compose({"main.py": b"", "lib/thing.py": b"x = 1\n"}))
    assert rig.eval("sorted(__import__('os').listdir('/'))") == ["lib", "main.py"]
    assert rig.eval("(__import__('os').getcwd(), __import__('sys').path)") == ("/", ["", ".frozen", "/lib"])
    assert rig.run("import thing, sys\nprint(thing.x, sys.argv)") == "1 ['']\n"
    for path in ("/etc/passwd", str(tmp_path / "flash.bin"), "../../etc/passwd", "/proc/self/environ"):
        assert rig.run(f"try:\n    open({path!r})\nexcept OSError as e:\n    print(e.errno)") in (
            "2\n",
            "22\n",
        )
    assert str(tmp_path) not in rig.run("import sys, time, machine\nprint(sys.path, sys.modules)")


def test_a_blank_filesystem_is_made_and_survives_reset_and_power_cut(bench: Bench, tmp_path: Path) -> None:
    flash = bytearray(compose())
    flash[VFS.offset : VFS.end] = b"\xff" * VFS.size
    rig = Rig(bench, tmp_path / "flash.bin", bytes(flash))
    rig.says("Performing initial setup")
    assert rig.eval("__import__('os').listdir('/')") == ["boot.py"]
    rig.run("f = open('kept', 'w')\nf.write('here')\nf.close()")
    since = rig.last_words("import machine\nmachine.reset()")
    rig.says(">>> ", since)
    assert rig.eval("open('kept').read()") == "here"
    # A power cut in the middle of writing: what was closed before is there, and the filesystem is whole.
    since = rig.last_words("while True:\n    f = open('more', 'w')\n    f.write('x' * 3000)\n    f.close()")
    time.sleep(0.3)
    rig.power_off()
    written = rig.flash.read_bytes()
    assert explain(FileSource("flash", written), None).filesystem
    assert written[: VFS.offset] == bytes(flash[: VFS.offset])
    rig.power_on()
    rig.says(">>> ", since)
    assert "Performing initial setup" not in rig.log[since:]
    assert rig.eval("(open('kept').read(), open('more').read() in ('', 'x' * 3000))") == ("here", True)


def test_a_corrupt_filesystem_complains_for_ever_and_ctrl_c_gives_a_prompt(
    bench: Bench, tmp_path: Path
) -> None:
    flash = bytearray(compose({"main.py": b"print('not this')"}))
    flash[VFS.offset : VFS.offset + 0x2000] = os.urandom(0x2000)
    rig = Rig(bench, tmp_path / "flash.bin", bytes(flash))
    rig.says("The filesystem appears to be corrupted", times=2)
    with rig.raw_repl() as board:
        assert board.exec("import os; print(os.listdir('/'))") == b"[]\r\n"
        board.exec(
            "from esp32 import Partition\nPartition.find(Partition.TYPE_DATA, label='vfs')[0].ioctl(6, 0)"
        )
    assert "not this" not in rig.log
    since = rig.last_words("import machine\nmachine.reset()")
    rig.says("Performing initial setup", since)


def test_no_filesystem_in_the_table(bench: Bench, tmp_path: Path) -> None:
    table = [p for p in BOARD.partition_table() if p.name != "vfs"]
    rig = Rig(bench, tmp_path / "flash.bin", with_table(compose({"main.py": b"print('not this')"}), table))
    rig.says("the partition table has no partition 'vfs'")
    assert rig.eval("1 + 1") == 2
    assert "not this" not in rig.log


def test_a_partition_table_without_a_filesystem(bench: Bench, tmp_path: Path) -> None:
    table = [p for p in BOARD.partition_table() if p.name != "vfs"]
    rig = Rig(bench, tmp_path / "flash.bin", with_table(compose(), table))
    rig.says("the partition table has no partition 'vfs'")
    assert rig.eval("__import__('esp32').Partition.find(1, label='vfs')") == []


@pytest.mark.parametrize(
    ("boot", "main", "said", "not_said"),
    [
        (
            b"1 / 0",
            b"print('main ran')",
            'File "boot.py", line 1, in <module>\nZeroDivisionError',
            "main ran",
        ),
        (b"x = (", b"print('main ran')", "SyntaxError", "main ran"),
        (b"", b"print('a')\nundefined", 'File "main.py", line 2, in <module>\nNameError', "_boot.py"),
        (b"kept = 'from boot'", b"print('main has it', kept)", "main has it from boot", "Traceback"),
        (b"raise KeyboardInterrupt", b"print('main ran')", "KeyboardInterrupt", "main ran"),
    ],
)
def test_boot_and_main(
    bench: Bench, tmp_path: Path, boot: bytes, main: bytes, said: str, not_said: str
) -> None:
    rig = Rig(bench, tmp_path / "flash.bin", compose({"boot.py": boot, "main.py": main}))
    rig.says(">>> ")
    assert said in rig.log
    assert not_said not in rig.log


def test_system_exit_in_main_is_a_soft_reset(bench: Bench, tmp_path: Path) -> None:
    main = b"from machine import *\nprint('cause', reset_cause())\nif reset_cause() == 1: raise SystemExit\n"
    rig = Rig(bench, tmp_path / "flash.bin", compose({"main.py": main}))
    rig.says(">>> ")
    assert rig.log.index("cause 1\n") < rig.log.index("MPY: soft reboot\n") < rig.log.index("cause 5\n")
