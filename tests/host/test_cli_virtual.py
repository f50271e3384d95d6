"""`limpet virtual`: the port first, then it stays; its flash file keeps what the board writes."""

import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.host.shell import Running, limpet, on_board, refused, virtual_board
from tests.host.stand import wait_until


def test_the_port_is_the_first_line_and_the_log_follows(tmp_path: Path) -> None:
    with virtual_board(TMPDIR=str(tmp_path)) as (port, running):
        assert running.lines[0] == port
        assert Path(port).is_char_device()
        running.line("node: limpet")
        assert "\r" not in "".join(running.lines)
        assert len(list(tmp_path.iterdir())) == 1
        running.send(signal.SIGINT)
        assert (running.wait(), running.err) == (0, "")
        assert not running.left()
    assert not list(tmp_path.iterdir())


def test_without_log_it_says_the_port_alone() -> None:
    with Running("virtual") as running:
        port = running.line()
        assert on_board(port, "print('alive')") == "alive\n"
        running.send(signal.SIGINT)
        assert running.wait() == 0
        assert running.lines == [port]


def test_a_flash_file_is_made_kept_and_for_its_owner_alone(tmp_path: Path) -> None:
    flash = tmp_path / "board.bin"
    with virtual_board("--flash", flash, "--new") as (port, running):
        running.line("node: limpet")
        taken = f"{flash} is the flash of a virtual board that runs: end that one, or name another file."
        refused(limpet("virtual", "--flash", flash), taken)
        on_board(port, "with open('kept.txt', 'w') as f: f.write('kept')")
        running.send(signal.SIGTERM)
        assert running.wait() == 128 + signal.SIGTERM
        assert not running.left()
    assert stat.S_IMODE(flash.stat().st_mode) == 0o600
    with virtual_board("--flash", flash) as (port, _):
        assert on_board(port, "print(open('kept.txt').read())") == "kept\n"
    assert list(tmp_path.iterdir()) == [flash]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_it_leaves_nothing(number: int, tmp_path: Path) -> None:
    with virtual_board(TMPDIR=str(tmp_path)) as (_, running):
        running.line("node: limpet")
        running.send(number, group=False)
        assert running.wait() == 128 + number
        assert (running.left(), list(tmp_path.iterdir())) == ([], [])


def test_killed_it_takes_micropython_with_it() -> None:
    with virtual_board() as (_, running):
        running.line("node: limpet")
        assert len(running.left()) > 1
        running.send(signal.SIGKILL, group=False)
        running.wait()
        wait_until(lambda: not running.left(), "the end of MicroPython")


def test_nobody_reads_the_log_any_more() -> None:
    with virtual_board() as (port, running):
        running.line("node: limpet")
        running.hang_up()
        with (
            open(port, "wb", buffering=0) as keyboard,  # noqa: PTH123 - buffered, it would want to seek
            suppress(OSError),  # the port goes with the board
        ):
            while running.process.poll() is None:
                keyboard.write(b"\x03\r\n")  # the board answers, and so its log goes on
                time.sleep(0.05)
        assert running.wait() == 0
        assert running.err == ""
