"""Faults on demand, as what is behind the port meets them: mpremote's transport and esptool's library."""

from collections.abc import Iterator

import pytest
import serial
from mpremote.transport import TransportError, TransportExecError

from host_tools import partitions
from host_tools.errors import NoDeviceError
from host_tools.esp.chip import LinkError, connect
from host_tools.virtual import control
from host_tools.virtual.line_faults import CHATTER
from tests.host.virtual_rig import BOARD, Rig, boards_on_bench

VFS = partitions.find(BOARD.partition_table(), "vfs")
SPOOL = partitions.find(BOARD.partition_table(), "spool")


@pytest.fixture(scope="module")
def shared() -> Iterator[Rig]:
    with boards_on_bench() as (rig,):
        rig.says(">>> ")
        yield rig


@pytest.fixture
def rig(shared: Rig) -> Iterator[Rig]:
    """A board at its prompt, without faults before and after."""
    yield shared
    shared.inside(lambda: control.clear(shared.board))
    since = len(shared.log)
    shared.inside(lambda: shared.board.switch("reset"))
    shared.says(">>> ", since)


def test_every_fault_can_be_set_shown_and_cleared(rig: Rig) -> None:
    some = {"drop": 0.5, "garble": 0.25, "chatter": 3, "deaf": True, "max_baud": 9600}
    some |= {"read_only": True, "slow": 2.0, "brownout": 1000}
    rig.faults(**some)
    assert rig.inside(lambda: control.state(rig.board)) == {**some, "power": "on"}
    assert set(some) | {"power", "vanish"} == set(control.FAULTS)
    rig.inside(lambda: control.clear(rig.board))
    assert not any(rig.inside(lambda: control.state(rig.board))[name] for name in some)
    with pytest.raises(control.FaultError, match="Did you mean 'drop'"):
        rig.faults(drup=1)


# The line


def test_a_deaf_board_neither_hears_nor_answers(rig: Rig) -> None:
    with serial.serial_for_url(rig.url, 115200, timeout=0.5) as port:
        since = len(rig.log)
        rig.faults(deaf=True)
        port.write(b"print(1)\r")
        assert port.read(1) == b""
        assert rig.log[since:] == ""
        rig.faults(deaf=False)
        port.write(b"print(1)\r")
        assert port.read(1) == b"p"


def test_esptool_finds_nobody_on_a_deaf_board(rig: Rig) -> None:
    rig.faults(deaf=True)
    with pytest.raises(NoDeviceError), connect(rig.url, BOARD, deadline=1.0):
        pass
    rig.says("waiting for download")  # it was there, and the reset arrived


def test_dropped_and_garbled_bytes_ruin_a_conversation(rig: Rig) -> None:
    for fault in ("drop", "garble"):
        with connect(rig.url, BOARD) as chip:
            chip.hurry()
            rig.faults(**{fault: 0.02})
            with pytest.raises(LinkError):
                chip.read(0, 0x10000)
        rig.faults(**{fault: 0.0})


def test_chatter_in_the_middle_of_a_raw_repl(rig: Rig) -> None:
    with rig.raw_repl() as board:
        rig.faults(chatter=1)
        with pytest.raises(TransportError):  # it expects one thing, and gets another
            board.exec("print('x')")
    with serial.serial_for_url(rig.url, 115200, timeout=0.5) as port:
        port.write(b"\x03\x01")
        port.read(500)
        rig.faults(chatter=1)
        port.write(b"print('x' * 300)\x04")
        said = port.read(1000)
        assert CHATTER in said
        assert said.replace(CHATTER, b"") == b"OK" + b"x" * 300 + b"\r\n\x04\x04>"
        port.write(b"\x02")


def test_chatter_waits_for_a_raw_repl(rig: Rig) -> None:
    rig.faults(chatter=1)
    since = len(rig.log)
    rig.inside(lambda: rig.board.switch("reset"))
    rig.says(">>> ", since)
    assert rig.board.faults.chatter == 1


# The flash, as the ROM meets it


def test_a_brownout_while_flashing_leaves_the_rest_blank(rig: Rig) -> None:
    with connect(rig.url, BOARD) as chip:
        chip.hurry()
        rig.faults(brownout=0x8000)
        with pytest.raises(LinkError):
            chip.write([(SPOOL.offset, b"\x5a" * 0x20000)])
    rig.says("Brownout detector was triggered")
    rig.says("rst:0xf (RTCWDT_BROWN_OUT_RESET)")
    flash = rig.flash.read_bytes()[SPOOL.offset : SPOOL.end]
    assert flash[:0x8000] == b"\x5a" * 0x8000
    assert flash[0x8100:] == b"\xff" * (SPOOL.size - 0x8100)
    assert rig.board.flash_chip.brownout is None  # it was this once


def test_a_read_only_chip_takes_nothing_and_does_not_say_so(rig: Rig) -> None:
    before = rig.flash.read_bytes()
    rig.faults(read_only=True)
    with connect(rig.url, BOARD) as chip:
        chip.erase(SPOOL.offset, 0x1000)
        assert chip.read(SPOOL.offset, 16) == before[SPOOL.offset : SPOOL.offset + 16]
    assert rig.flash.read_bytes() == before


# The flash, as MicroPython meets it: the faults at its start count


def restarted(rig: Rig, **faults: object) -> None:
    rig.faults(**faults)
    since = len(rig.log)
    rig.inside(lambda: rig.board.switch("reset"))
    rig.says(">>> ", since)


WRITE = "import esp32\np = esp32.Partition.find(1, label='spool')[0]\np.ioctl(6, 2)\n"
WRITE += "p.writeblocks(2, b'\\x33' * 4096, 0)\n"


def test_micropython_on_a_read_only_chip(rig: Rig) -> None:
    before = rig.flash.read_bytes()
    restarted(rig, read_only=True)
    rig.run(WRITE)
    with pytest.raises(TransportExecError, match="OSError"):
        rig.run("f = open('x', 'w')\nf.write('x' * 5000)\nf.close()")
    assert rig.flash.read_bytes() == before


def test_micropython_in_a_brownout(rig: Rig) -> None:
    restarted(rig, brownout=1000)
    since = rig.last_words(WRITE)
    rig.says("rst:0xf (RTCWDT_BROWN_OUT_RESET)", since)
    rig.says(">>> ", since)
    start = SPOOL.offset + 2 * 4096
    written = rig.flash.read_bytes()[start : start + 4096]
    assert written[:768] == b"\x33" * 768
    assert written[1024:] == b"\xff" * 3072
    assert rig.eval("__import__('machine').reset_cause()") == 1


def test_micropython_on_a_slow_chip(rig: Rig) -> None:
    def milliseconds() -> int:
        code = (
            "import time\nbegan = time.ticks_ms()\n"
            + WRITE
            + "print(time.ticks_diff(time.ticks_ms(), began))"
        )
        return int(rig.run(code))

    restarted(rig, slow=5)
    assert milliseconds() >= 5 * (45 + 16 * 0.4) * 0.9  # a sector erased, sixteen pages programmed
