"""`limpet monitor` on virtual boards: side by side, never in the way, and back when a port is back."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools import image, paths
from host_tools.line import open_line
from host_tools.virtual.bench import Bench
from tests.host.shell import DEADLINE, Running, limpet, refused
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig, compose

ANYWHERE = ("127.0.0.1", 0)
Rigs = dict[str, Rig]

# A node by its own words, with a fault in it once a second. It does not look at what is typed.
FAULTY = b"""
import sys, time
import limpet
from limpet.log import log
from limpet.tasks import Task
log("node", "limpet " + limpet.__version__)
log("node", "I am 'faulty'")
while True:
    try:
        Task("none", None)
    except Exception as e:
        sys.print_exception(e)
    time.sleep(1)
"""
# 10 kB a second, no end of line, no text.
BABBLING = b"""
import sys, time
while True:
    sys.stdout.buffer.write(bytes(range(128, 256)) * 4)
    time.sleep_ms(50)
"""
TICKING = b"""
import time
n = 0
while True:
    n += 1
    print("tick", n)
    time.sleep_ms(200)
"""


@pytest.fixture(scope="module")
def rigs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rigs]:
    folder = tmp_path_factory.mktemp("boards")
    firmware = image.firmware_files()
    older = {name: data for name, data in firmware.items() if name != "limpet/__init__.mpy"}
    files = {
        "node": firmware,
        "faulty": {**firmware, "main.py": FAULTY},
        "older": {**older, "limpet/__init__.py": b'__version__ = "0.0.9"\n', "main.py": FAULTY},
        "babbling": {"main.py": BABBLING},
        "ticking": {"main.py": TICKING},
    }
    with Bench() as bench:
        yield {
            name: Rig(
                bench,
                folder / f"{name}.bin",
                compose(contents),
                mac=bytes.fromhex("240ac4e100") + bytes((number,)),
                rfc2217=ANYWHERE,
            )
            for number, (name, contents) in enumerate(files.items())
        }


def events(running: Running) -> Iterator[dict[str, Any]]:
    """What a monitor with --json says, for as long as it may take."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        yield json.loads(running.line())
    raise AssertionError(f"nothing more came that was waited for; last: {running.lines[-5:]}")


def ended(running: Running) -> None:
    running.send(signal.SIGINT)
    assert (running.wait(), running.err, running.left()) == (0, "", [])


def test_boards_in_one_view_without_a_reset(rigs: Rigs, tmp_path: Path) -> None:
    node, ticking, log = rigs["node"], rigs["ticking"], tmp_path / "log"
    boots = node.board.boots, ticking.board.boots
    with Running("monitor", "--port", node.url, "--port", ticking.url, "--log", log) as running:
        answer = running.line("limpet 0.1.0 node -")
        name = node.url.removeprefix("rfc2217://")
        assert answer[12:] == f" {name}  limpet 0.1.0 node -"
        time.strptime(answer[:8], "%H:%M:%S")
        assert running.line("tick ")[12:].startswith(f" {ticking.url.removeprefix('rfc2217://')}  tick ")
        for _ in range(5):
            running.line("tick ")
        ended(running)
    assert (node.board.boots, ticking.board.boots) == boots
    kept = log.read_text().splitlines()
    assert [line.split(" ", 2)[1:] for line in kept if "node -" in line] == [[name, "limpet 0.1.0 node -"]]
    assert len(kept) == len(running.lines)
    assert "\x1b" not in log.read_text() + "".join(running.lines)
    for rig in (node, ticking):
        assert "KeyboardInterrupt" not in rig.log


def test_tracebacks_are_marked_with_the_source(rigs: Rigs) -> None:
    faulty = rigs["faulty"]
    source = (paths.FIRMWARE / "limpet" / "tasks.py").read_text().splitlines()
    number = source.index("        self._steps = part.run()") + 1
    with Running("monitor", "--port", faulty.url) as running:
        running.line("Traceback (most recent call last):")
        running.line('File "main.py", line ')
        frame = running.line('File "limpet/tasks.py"')
        mark = running.line()
        error = running.line()
        ended(running)
    assert frame.endswith(f'  File "limpet/tasks.py", line {number}, in __init__')
    assert mark.endswith(f"    → firmware/limpet/tasks.py:{number}: self._steps = part.run()")
    assert "AttributeError: 'NoneType'" in error


def test_names_and_other_firmware_on_the_board_in_json(rigs: Rigs) -> None:
    older = rigs["older"]
    with Running("monitor", "--json", "-p", older.url) as running:
        seen = events(running)
        assert next(seen)["event"] == "up"
        board = rigs["older"].board
        older.bench.run(board.reset())  # so that it introduces itself
        named = next(event for event in seen if event["node"])
        assert (named["node"], named["port"], named["event"]) == ("faulty", older.url, "line")
        marked = next(
            event for event in seen if event.get("source", {"file": "main"})["file"].endswith("tasks.py")
        )
        assert (marked["node"], marked["traceback"]) == ("faulty", True)
        assert marked["source"]["board_runs"] == "0.0.9"
        assert marked["source"]["text"] == "self._steps = part.run()"
        ended(running)


def test_a_port_that_vanishes_comes_back(rigs: Rigs) -> None:
    node, ticking = rigs["node"], rigs["ticking"]
    boots = ticking.board.boots
    with Running("monitor", "--json", "--port", ticking.url, "--port", node.url) as running:
        seen = events(running)
        next(event for event in seen if event["text"].startswith("tick"))
        ticking.faults(vanish=1.0)
        gone = next(event for event in seen if event["event"] == "down")
        assert (gone["port"], gone["text"]) == (ticking.url, "the port is gone; waiting for it")
        back = next(
            event for event in seen if event["event"] in ("up", "down") and event["port"] == ticking.url
        )
        assert back["event"] == "up"
        next(event for event in seen if event["text"].startswith("tick"))
        ended(running)
    assert ticking.board.boots == boots


def test_a_board_that_babbles_keeps_nobody_waiting(rigs: Rigs) -> None:
    babbling, ticking = rigs["babbling"], rigs["ticking"]
    with Running("monitor", "--json", "--port", babbling.url, "--port", ticking.url) as running:
        garbage, ticks = 0, []
        for event in events(running):
            if event["port"] == ticking.url and event["text"].startswith("tick"):
                ticks.append(int(event["text"].split()[1]))
            elif event["event"] == "line":
                garbage += 1
                assert len(event["text"]) <= 4000
                assert event["text"].isprintable()
            if garbage >= 20 and len(ticks) >= 10:
                break
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
        ended(running)


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_reader_that_stops_does_not_stop_the_boards(words: list[str], rigs: Rigs) -> None:
    """As in `limpet monitor | less`, and then less ends."""
    ticking = rigs["ticking"]
    read, write = os.pipe()
    with Running("monitor", "--port", ticking.url, *words, stdout=write) as running:
        os.close(write)
        wait_until(lambda: b"tick" in os.read(read, 65536), "a tick")
        said = len(ticking.log)
        ticking.says("tick", since=said, times=10)
        os.close(read)
        assert running.wait() == 0
        assert running.err == ""


def test_a_full_disk_ends_the_log_and_not_the_view(rigs: Rigs) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with Running("monitor", "--port", rigs["ticking"].url, "--log", "/dev/full") as running:
        for _ in range(5):
            running.line("tick")
        running.send(signal.SIGINT)
        assert running.wait() == 0
        assert running.err == (
            "limpet: /dev/full cannot be written (No space left on device): the log has a gap until it can; "
            "make room for it.\n"
        )


def test_all_takes_what_is_there_and_what_comes(rigs: Rigs) -> None:
    node, ticking = rigs["node"], rigs["ticking"]
    with Running("monitor", "--all", "--json", LIMPET_PORTS=f"{node.url} {ticking.url}") as running:
        up: set[str] = set()
        for event in events(running):
            up |= {event["port"]} if event["event"] == "up" else set()
            if {node.url, ticking.url} <= up:
                break
        ended(running)


def test_a_device_that_is_pulled_out_and_plugged_in(tmp_path: Path) -> None:
    plug = tmp_path / "ttyUSB0"
    flash = compose({"main.py": TICKING})
    with contextlib.ExitStack() as stack:
        first = contextlib.ExitStack()
        one = Rig(first.enter_context(Bench()), tmp_path / "one.bin", flash)
        stack.callback(first.close)
        plug.symlink_to(one.port)
        running = stack.enter_context(Running("monitor", "--json", "--port", plug))
        seen = events(running)
        next(event for event in seen if event["text"].startswith("tick"))
        assert one.board.boots == 1
        plug.unlink()
        first.close()
        assert next(event for event in seen if event["event"] == "down")["port"] == str(plug)
        two = Rig(stack.enter_context(Bench()), tmp_path / "two.bin", flash)
        plug.symlink_to(two.port)
        assert next(event for event in seen if event["event"] == "up")["port"] == str(plug)
        next(event for event in seen if event["text"].startswith("tick"))
        assert two.board.boots == 1
        ended(running)


def test_one_port_that_does_not_open_does_not_stop_the_others(rigs: Rigs, tmp_path: Path) -> None:
    none = tmp_path / "none"
    with Running("monitor", "--json", "--port", none, "--port", rigs["ticking"].url) as running:
        seen = events(running)
        told: dict[str, dict[str, Any]] = {}
        for event in seen:
            told.setdefault(event["port"], event)
            if len(told) == 2 and event["text"].startswith("tick"):
                break
        assert told[str(none)]["text"] == (
            f"The serial port '{none}' does not exist: plug the board in, or name its port."
        )
        ended(running)


def test_no_port_at_all(rigs: Rigs, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    sentence = "The serial port '{}' does not exist: plug the board in, or name its port."
    done = limpet("monitor", "--port", one)
    assert (done.code, done.err) == (3, f"limpet: {sentence.format(one)}\n")
    done = limpet("monitor", "--port", one, "--port", two, "--json")
    assert done.code == 3
    assert "limpet: None of the 2 ports opens. The serial port '" in done.err
    assert json.loads(done.out)["exit_code"] == 3
    refused(
        limpet("monitor"),
        "Which board? Name its port, as in --port /dev/ttyUSB0, or say --all.",
        code=2,
    )
    with contextlib.closing(open_line(rigs["node"].url)):
        done = limpet("monitor", "--port", rigs["node"].url)
    assert (done.code, "another program has it" in done.err) == (3, True)


def test_a_log_that_cannot_be_opened(rigs: Rigs, tmp_path: Path) -> None:
    sentence = f"{tmp_path} cannot be written (Is a directory): name another file by --log."
    refused(limpet("monitor", "--port", rigs["node"].url, "--log", tmp_path), sentence)
