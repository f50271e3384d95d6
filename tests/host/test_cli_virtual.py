"""`limpet virtual`: a line a board with its URL first, then it stays; what boards keep, and their faults."""

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from tests.host.shell import (
    DEADLINE,
    LIMPET,
    Running,
    environment,
    limpet,
    on_board,
    refused,
    virtual_board,
)
from tests.host.stand import wait_until


def test_the_url_comes_first_and_the_log_follows(tmp_path: Path) -> None:
    with virtual_board(TMPDIR=str(tmp_path)) as (url, running):
        _, mac, tty, folder = running.lines[0].split()
        assert url.startswith("rfc2217://127.0.0.1:")
        assert mac.startswith("24:0a:c4:")
        assert Path(tty).is_char_device()
        assert (Path(folder) / "flash.bin").is_file()
        running.line("node: limpet")
        assert "\r" not in "".join(running.lines)
        assert len(list(tmp_path.iterdir())) == 1
        running.send(signal.SIGINT)
        assert (running.wait(), running.err) == (0, "")
        assert not running.left()
    assert not list(tmp_path.iterdir())


def test_without_log_it_says_how_to_reach_it_alone() -> None:
    with Running("virtual") as running:
        line = running.line()
        assert on_board(line.split()[0], "print('alive')") == "alive\n"
        assert on_board(line.split()[2], "print('alive')") == "alive\n"
        running.send(signal.SIGINT)
        assert running.wait() == 0
        assert running.lines == [line]


def test_boards_keep_their_flash_and_their_address(tmp_path: Path) -> None:
    folder = tmp_path / "boards"
    with Running("virtual", "--count", "2", "--state", folder, "--json") as running:
        running.line("]")
        wait_until(lambda: running.lines[-1] == "}", "the end of the object")
        found = json.loads("".join(running.lines))["boards"]
        assert [(each["number"], each["board"]) for each in found] == [(1, "virtual"), (2, "virtual")]
        assert found[0]["mac"] != found[1]["mac"]
        on_board(found[1]["url"], "with open('kept.txt', 'w') as f: f.write('kept')")
        running.send(signal.SIGTERM)
        assert running.wait() == 128 + signal.SIGTERM
        assert not running.left()
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "1/board.json",
        "1/flash.bin",
        "2/board.json",
        "2/flash.bin",
    ]
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_file()} == {0o600}
    with virtual_board("--count", "2", "--state", folder) as (_, running):
        second = running.line("24:0a:c4")
        assert second.split()[1] == found[1]["mac"]
        running.line("2: ")
        assert on_board(second.split()[0], "print(open('kept.txt').read())") == "kept\n"


def test_ports_in_a_row_and_one_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = f"Port {port} of 127.0.0.1 cannot be used (Address already in use): name another one."
        refused(limpet("virtual", "--port", str(port)), sentence)
    with Running("virtual", "--port", str(port)) as running:
        assert running.line().startswith(f"rfc2217://127.0.0.1:{port} ")
        refused(limpet("virtual", "--port", str(port)), sentence)


def test_a_blank_board_of_another_kind(tmp_path: Path) -> None:
    with virtual_board("--blank", "--board", "esp32c3_generic", "--state", tmp_path) as (_, running):
        running.line("ESP-ROM:esp32c3")
        running.line("invalid header: 0xffffffff")
        running.line("rst:0x10 (RTCWDT_RTC_RST)")
        assert [line for line in running.left() if "micropython" in line] == []  # nothing runs on it
    flash = tmp_path / "1" / "flash.bin"
    assert flash.read_bytes() == b"\xff" * 0x400000
    words: tuple[str | Path, ...] = ("virtual", "--state", tmp_path)
    another = f"{tmp_path / '1'} is a board 'esp32c3_generic', not 'virtual': "
    refused(
        limpet(*words, "--board", "virtual"),
        f"{another}leave --board out, or name another folder by --state.",
        code=2,
    )
    there = f"--blank is for new boards, but {flash} is there already: "
    refused(limpet(*words, "--blank"), f"{there}remove it, or name another folder by --state.", code=2)
    with virtual_board("--state", tmp_path) as (_, running):
        running.line("ESP-ROM:esp32c3")


# Folders that do not do


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """The folder of a board that has been there."""
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "board.json").write_text('{"board": "virtual", "mac": "240ac4000001"}')
    (folder / "flash.bin").write_bytes(b"\xff" * 0x400000)
    yield folder


def test_flash_files_that_do_not_do(kept: Path, tmp_path: Path) -> None:
    flash = kept / "flash.bin"
    or_another = "or name another folder by --state."
    with flash.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        taken = f"{flash} is the flash of a virtual board that runs: end that one, {or_another}"
        refused(limpet("virtual", "--state", tmp_path), taken)
    flash.write_bytes(b"x" * 100)
    short = f"{flash} has 100 bytes, but the flash of 'virtual' has 4194304: remove it to get a new one, "
    refused(limpet("virtual", "--state", tmp_path), short + or_another)
    flash.unlink()
    os.mkfifo(flash)
    refused(limpet("virtual", "--state", tmp_path), f"{flash} is not a file: remove it, {or_another}")
    for text in ("", "{}", '{"board": "virtual", "mac": "nonsense"}', '{"board": 1, "mac": "240ac4000001"}'):
        (kept / "board.json").write_text(text)
        sentence = "does not say which board this is: remove it to get a new MAC, or name another folder."
        refused(limpet("virtual", "--state", tmp_path), f"{kept / 'board.json'} {sentence}")


def test_a_flash_file_that_may_not_be_written(kept: Path, tmp_path: Path) -> None:
    (kept / "flash.bin").chmod(0o444)
    words = [LIMPET, "virtual", "--state", str(tmp_path)]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may write everything, and there is no setpriv to take that away")
        words = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *words]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=DEADLINE, env=environment(), check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        f"limpet: {kept / 'flash.bin'} cannot be opened for reading and writing (Permission denied): let it "
        "be written, or name another folder by --state.\n",
    )


# Faults, from another terminal


def test_faults_of_boards_that_run(tmp_path: Path) -> None:
    with virtual_board("--count", "2", "--state", tmp_path) as (url, running):
        running.line("2: ")
        one, two = tmp_path / "1", tmp_path / "2"
        none = "drop=0.0 garble=0.0 chatter=0 deaf=off max_baud=none read_only=off slow=0.0 brownout=none"
        none += " power=on"
        assert limpet("virtual", "fault", tmp_path).out.splitlines() == [f"{one}: {none}", f"{two}: {none}"]
        shown = limpet("virtual", "fault", one, "deaf=on", "slow=0.5", "max_baud=460800", "--json")
        state = json.loads(shown.out)["boards"][str(one)]
        assert (state["deaf"], state["slow"], state["max_baud"]) == (True, 0.5, 460800)
        assert limpet("virtual", "fault", two).out == f"{two}: {none}\n"
        assert limpet("virtual", "fault", one, "none").out == f"{one}: {none}\n"
        assert "power=off" in limpet("virtual", "fault", one / "control", "power=off").out
        assert limpet("virtual", "fault", one, "power=on").code == 0
        running.line("1: rst:0x1 (POWERON_RESET)")
        limpet("virtual", "fault", one, "vanish=30")
        with pytest.raises(serial.SerialException):
            serial.serial_for_url(url)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["drp=1"], "There is no fault 'drp'. Did you mean 'drop'?"),
        (["drop"], "'drop' has no value: write drop= and a fraction from 0 to 1, such as 0.01."),
        (["drop=2"], "'drop=2' is not possible: drop takes a fraction from 0 to 1, such as 0.01."),
        (["deaf=yes"], "'deaf=yes' is not possible: deaf takes on or off."),
        (
            ["slow=inf"],
            "'slow=inf' is not possible: slow takes a factor: 0 for no time at all, 1 for a real chip's.",
        ),
        (["power=up"], "'power=up' is not possible: power takes on, off or reset."),
        (
            ["deaf=on", "brownout=-1"],
            "'brownout=-1' is not possible: brownout takes a number of bytes, or none.",
        ),
    ],
)
def test_faults_that_are_none(one_board: Path, words: list[str], sentence: str) -> None:
    refused(limpet("virtual", "fault", one_board, *words), sentence, code=2)
    assert " deaf=off " in limpet("virtual", "fault", one_board).out  # nothing was done


@pytest.fixture(scope="module")
def one_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = (
        tmp_path_factory.mktemp("a folder whose name is so long that no socket of the system can have it")
        / "x"
    )
    with virtual_board("--state", folder) as (_, running):
        running.line("node: limpet")
        yield folder / "1"


def test_faults_of_no_board(tmp_path: Path) -> None:
    nobody = f"No virtual board answers at {tmp_path / 'control'} (No such file or directory): "
    there = "start it, or name the folder of one that runs."
    refused(limpet("virtual", "fault", tmp_path), nobody + there, code=3)


# How it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_it_leaves_nothing(number: int, tmp_path: Path) -> None:
    with virtual_board(TMPDIR=str(tmp_path)) as (_, running):
        running.line("node: limpet")
        running.send(number, group=False)
        assert running.wait() == 128 + number
        assert (running.left(), list(tmp_path.iterdir())) == ([], [])


def test_killed_it_takes_micropython_with_it(tmp_path: Path) -> None:
    with virtual_board("--state", tmp_path) as (_, running):
        running.line("node: limpet")
        assert len(running.left()) > 1
        running.send(signal.SIGKILL, group=False)
        running.wait()
        wait_until(lambda: not running.left(), "the end of MicroPython")
    with virtual_board("--state", tmp_path) as (_, running):  # what it left is no hindrance
        assert limpet("virtual", "fault", tmp_path).code == 0


def test_nobody_reads_the_log_any_more() -> None:
    with virtual_board() as (url, running):
        running.line("node: limpet")
        running.hang_up()
        with serial.serial_for_url(url, 115200) as keyboard:
            while running.process.poll() is None:
                try:
                    keyboard.write(b"\x03\r\n")  # the board answers, and so its log goes on
                except OSError:
                    break  # the port has gone with the board
        assert running.wait() == 0
        assert running.err == ""
