"""`limpet flash` from the shell, on virtual boards: what ends up on them, and what the user sees."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from host_tools import boards, partitions, paths
from tests.host import in_process
from tests.host.flashing import (
    KEPT,
    NEW_SAYS,
    OLD_SAYS,
    bench,
    composed,
    expected,
    firmware,
    flash,
    used,
)
from tests.host.shell import DEADLINE, LIMPET, Running, environment, limpet, refused
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig

BOARD = boards.load_board("virtual")
BLANK = b"\xff" * BOARD.flash_size
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "virtual.bin"
    path.write_bytes(composed())
    return path


def place(rig: Rig, name: str) -> bytes:
    found = partitions.find(BOARD.partition_table(), name)
    return rig.flash.read_bytes()[found.offset : found.end]


def test_the_life_of_a_board(tmp_path: Path, image_file: Path) -> None:
    """Looked at, flashed, flashed again, changed a little, and erased."""
    words = ("flash", "--board", "virtual", "--image", image_file)
    with bench(tmp_path) as put:
        rig = put(used())
        rig.says(OLD_SAYS)
        before = rig.flash.read_bytes()
        named = f"{rig.url}: ESP32 {rig.mac}"

        done = limpet(*words, "--port", rig.url, "--dry-run")
        assert (done.code, rig.flash.read_bytes()) == (0, before)
        counts = re.fullmatch(rf"{named}, would write (\d+) bytes; (\d+) are there\n", done.out)
        assert counts
        rig.says(OLD_SAYS, times=2)  # it runs again

        done = limpet(*words, "--port", rig.url)
        assert (done.code, done.out) == (
            0,
            f"{named}, {counts[1]} bytes written and verified, {counts[2]} were there; runs limpet 0.1.0\n",
        )
        steps = [line.removeprefix(f"{rig.url}: ") for line in done.err.splitlines()]
        assert [step for step in steps if "%" not in step] == [
            "connecting",
            "comparing",
            "erasing the partition table",
            "writing",
            "verifying",
            "writing the partition table",
            "starting",
        ]
        assert rig.flash.read_bytes() == expected(before, composed())
        assert all(place(rig, name).startswith(name.encode()) for name in KEPT)
        rig.says(NEW_SAYS)

        programmed = rig.board.flash_chip.programmed
        done = limpet(*words, "--port", rig.url)
        total = int(counts[1]) + int(counts[2])
        assert done.out == f"{named}, nothing to write, all {total} bytes are there; runs limpet 0.1.0\n"
        assert rig.board.flash_chip.programmed == programmed

        changed = bytearray(rig.flash.read_bytes())
        vfs = partitions.find(BOARD.partition_table(), "vfs")
        changed[vfs.end - 4096 : vfs.end] = bytes(4096)
        rig.flash.write_bytes(changed)
        again = flash([rig.url], image_file)
        assert again.boards[0]["written"] == 0x10000 + 0x1000  # one block, and the table
        assert rig.flash.read_bytes() == expected(before, composed())

        erased = flash([rig.url], image_file, "--erase")
        assert "identities, unsent readings and Wi-Fi calibration are lost" in erased.err
        assert (erased.code, rig.flash.read_bytes()) == (0, expected(BLANK, composed()))


def test_several_boards_and_one_that_fails(tmp_path: Path, image_file: Path) -> None:
    with bench(tmp_path) as put:
        rigs = [put() for _ in range(3)]
        ports = [rigs[0].url, "/dev/none", rigs[1].url, rigs[2].url]
        done = flash(ports, image_file, "--fleet", tmp_path / "fleet.db")
        assert (done.code, done.codes) == (3, [0, 3, 0, 0])
        assert [board["port"] for board in done.boards] == ports
        assert [board["mac"] for board in done.boards] == [rigs[0].mac, None, rigs[1].mac, rigs[2].mac]
        first = done.boards[0]
        assert {**first, "written": 0, "same": 0} == {
            "port": rigs[0].url,
            "chip": "ESP32",
            "mac": rigs[0].mac,
            "flash_size": BOARD.flash_size,
            "written": 0,
            "same": 0,
            "proof": "limpet 0.1.0",
            "error": None,
            "exit_code": 0,
        }
        assert first["written"] > 0
        assert (done.report["board"], done.report["dry_run"], done.report["exit_code"]) == (
            "virtual",
            False,
            3,
        )
        for rig in rigs:
            assert rig.flash.read_bytes() == expected(BLANK, composed())


def test_all_boards_that_are_there_with_an_image_made_on_the_spot(tmp_path: Path) -> None:
    """The firmware and a node's settings, as `limpet image build` has them."""
    node = paths.ROOT / "docs" / "node.example.toml"
    with bench(tmp_path) as put:
        rigs = [put() for _ in range(2)]
        there = " ".join(rig.url for rig in rigs)
        done = limpet("flash", "--board", "virtual", "--all", "--json", LIMPET_PORTS=there)
        report = json.loads(done.out)
        boards_found = {board["port"]: board for board in report["boards"]}
        assert {rig.url for rig in rigs} <= set(boards_found)
        for rig in rigs:
            assert boards_found[rig.url]["exit_code"] == 0
            assert rig.run("import os\nprint(sorted(os.listdir()))").strip() == str(
                sorted({name.split("/")[0] for name in firmware()})
            )
        done = limpet("flash", "--board", "virtual", "--port", rigs[0].url, "--node", node)
        assert done.code == 0, done.err
        assert "limpet.json" in rigs[0].run("import os\nprint(os.listdir())")


def test_all_without_a_board() -> None:
    if any(Path("/dev").glob("ttyUSB*")) or any(Path("/dev").glob("ttyACM*")):
        pytest.skip("there is a board on this machine")
    done = limpet("flash", "--board", "virtual", "--all", LIMPET_PORTS="")
    refused(done, "No port looks like a board's: plug a board in, or name its --port.", 3)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Name the boards' ports by --port, or take them all by --all: one of the two."),
        (
            ["--port", "x", "--all"],
            "Name the boards' ports by --port, or take them all by --all: one of the two.",
        ),
        (["--port", "x", "--port", "x"], "A --port stands there twice: name each board once."),
        (
            ["--port", "x", "--mac", "24:0a"],
            "--mac '24:0a' is no MAC address: write it like 24:0a:c4:01:02:03.",
        ),
        (
            ["--port", "x", "--image", "a", "--node", "b"],
            "--image is a whole flash: leave --node and --micropython out, or --image.",
        ),
    ],
)
def test_words_that_make_no_sense(words: list[str], sentence: str) -> None:
    refused(in_process.limpet("flash", "--board", "virtual", *words), sentence, 2)


def test_a_fleet_record_that_is_none(tmp_path: Path, image_file: Path) -> None:
    (tmp_path / "fleet").write_text("no database, but a text that is long enough\n" * 50)
    done = in_process.limpet(
        *("flash", "--board", "virtual", "--port", "x", "--image", image_file, "--fleet", tmp_path / "fleet")
    )
    assert (done.code, done.out) == (1, "")
    assert f"{tmp_path / 'fleet'} cannot be used as a fleet record" in done.err


def test_bars_on_a_terminal(tmp_path: Path, image_file: Path) -> None:
    with bench(tmp_path) as put:
        rigs = [put(), put()]
        words = [word for rig in rigs for word in ("--port", rig.url)]
        ours, its = pty.openpty()
        with subprocess.Popen(
            [
                LIMPET,
                "flash",
                "--board",
                "virtual",
                "--image",
                str(image_file),
                *words,
                "--port",
                "/dev/none",
            ],
            stdout=subprocess.PIPE,
            stderr=its,
            stdin=subprocess.DEVNULL,
            env=environment(TERM="xterm", COLUMNS="160"),
        ) as process:
            os.close(its)
            seen = b""
            while data := _read(ours):
                seen += data
            out, _ = process.communicate(timeout=DEADLINE)
        os.close(ours)
        lines = [line.strip() for line in ANSI.sub("", seen.decode()).splitlines()]
        for rig in rigs:
            bar = rf"{re.escape(rig.url)} ━+ 100% .* done"
            assert any(re.fullmatch(bar, line) for line in lines), lines[-20:]
        assert any(re.fullmatch(r"/dev/none .*failed", line) for line in lines)
        assert lines[-1] == (
            "limpet: The serial port '/dev/none' does not exist: plug the board in, or name its port."
        )
        assert out.decode().count("runs limpet 0.1.0\n") == 2
        assert process.returncode == 3


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's word for the end of a terminal
        return b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended(tmp_path: Path, image_file: Path, number: int) -> None:
    with bench(tmp_path) as put:
        rig = put(paced=True)
        with Running("flash", "--board", "virtual", "--image", image_file, "--port", rig.url) as running:
            rig.says("waiting for download")
            running.send(number)
            assert running.wait() == 128 + number
            assert not running.left()
            assert "Traceback" not in running.err


def test_a_process_that_breaks_off(tmp_path: Path, image_file: Path) -> None:
    """The others go on, and its board is told."""
    with bench(tmp_path) as put:
        rigs = [put(paced=True), put(paced=True)]
        words = [word for rig in rigs for word in ("--port", rig.url)]
        with Running("flash", "--board", "virtual", "--image", image_file, *words) as running:
            wait_until(lambda: len(_children(running.process.pid)) == 2, "a process for each board")
            rigs[0].says("waiting for download")
            os.kill(min(_children(running.process.pid)), signal.SIGKILL)
            assert running.wait() == 1
        assert re.search(r"the process that flashes it broke off while \w+ \(.+\): try again\.", running.err)
        assert running.lines[0].endswith("runs limpet 0.1.0")
        assert len(running.lines) == 1


def _children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            is_ours = b"host_tools.flashing.worker" in (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if is_ours and int(words[1]) == pid:
            found.append(int(folder.name))
    return found


def test_the_process_ends_with_its_parent() -> None:
    """Without a job, too."""
    with subprocess.Popen(
        [sys.executable, "-m", "host_tools.flashing.worker"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        process.stdin.close()
        assert process.wait(DEADLINE) == 1
