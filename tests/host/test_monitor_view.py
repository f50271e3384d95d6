"""What the monitor makes of a board's bytes: lines, names, tracebacks with their source, a log file."""

import os
import resource
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue

import pytest

from host_tools import paths
from host_tools.devices import Port
from host_tools.errors import LimpetError
from host_tools.monitor.lines import MOST, PATIENCE_S, Lines
from host_tools.monitor.link import Event, Link, find_again
from host_tools.monitor.log import Log
from host_tools.monitor.traceback import Source, Traceback, checkout_version
from host_tools.monitor.view import View, short

NOW = datetime(2026, 11, 22, 20, 30, 40, 123456, UTC)
USB = "/dev/ttyUSB0"


# Lines


def test_lines_come_whole_whatever_the_pieces() -> None:
    text = "one\r\n\r\ntwo °C\nthree\r\n".encode()
    for size in (1, 2, 3, 100):
        lines = Lines()
        got = [line for at in range(0, len(text), size) for line in lines.feed(text[at : at + size], 0.0)]
        assert got == [b"one", b"", "two °C".encode(), b"three"]
        assert lines.end() == []


def test_a_line_without_an_end_is_shown_when_it_has_waited() -> None:
    lines = Lines()
    assert lines.feed(b"\r\n>>> ", 10.0) == [b""]
    assert lines.late(10.0 + PATIENCE_S / 2) == []
    assert lines.feed(b"", 10.0 + PATIENCE_S / 2) == []
    assert lines.late(10.0 + PATIENCE_S) == [b">>> "]
    assert lines.late(20.0) == []
    assert lines.feed(b"1\r\n", 20.0) == [b"1"]


def test_long_lines_are_cut_but_no_character_is() -> None:
    lines = Lines()
    euro = "€".encode()
    got = lines.feed(euro * 1000 + b"\n", 0.0)
    assert b"".join(got) == euro * 1000
    assert max(map(len, got)) <= MOST
    assert [line.decode() for line in got]
    endless = [piece for _ in range(100) for piece in lines.feed(b"\xff" * 5000, 0.0)]
    assert sum(map(len, endless)) >= 100 * 5000 - MOST
    assert set(map(len, endless)) == {MOST}
    assert [len(rest) <= MOST for rest in lines.end()] == [True]


# Tracebacks


def follow(*lines: str, firmware: Path = paths.FIRMWARE) -> list[tuple[bool, Source | None]]:
    traceback = Traceback(firmware)
    return [traceback.follow(line) for line in lines]


def test_a_traceback_is_marked_with_its_source() -> None:
    source = (paths.FIRMWARE / "limpet" / "tasks.py").read_text().splitlines()
    number = source.index("                wait = next(self._steps)") + 1
    got = follow(
        "      1.000 node: limpet 0.1.0",
        "Traceback (most recent call last):",
        f'  File "limpet/tasks.py", line {number}, in turn',
        '  File "<stdin>", line 1, in <module>',
        '  File "/lib/mine.py", line 1, in f',
        "ValueError: no",
        f'  File "limpet/tasks.py", line {number}, in turn',
    )
    marked = Source("firmware/limpet/tasks.py", number, "wait = next(self._steps)")
    assert got == [
        (False, None),
        (True, None),
        (True, marked),
        (True, None),
        (True, None),
        (True, None),
        (False, None),
    ]


@pytest.mark.parametrize(
    "frame",
    [
        '  File "limpet/tasks.py", line 0, in f',
        '  File "limpet/tasks.py", line 99999, in f',
        '  File "../pyproject.toml", line 1, in f',
        '  File "../host_tools/errors.py", line 1, in f',
        '  File "limpet", line 1, in f',
        '  File "mypy.ini", line 1, in f',
        f'  File "{"x" * 5000}.py", line 1, in f',
        '  File "limpet/\\x00.py", line 1, in f',
        '  File "limpet/\x00.py", line 1, in f',
    ],
)
def test_frames_that_are_not_of_the_firmware(frame: str) -> None:
    assert follow("Traceback (most recent call last):", frame)[1] == (True, None)


def test_source_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "main.py"
    frame = '  File "main.py", line 1, in <module>'
    for at, text in enumerate(("one()", "two()")):
        file.write_text(text)
        os.utime(file, ns=(at, at))
        source = follow("Traceback (most recent call last):", frame, firmware=tmp_path)[1][1]
        assert source and source.text == text


def test_the_version_of_this_checkout() -> None:
    assert checkout_version() == "0.1.0"
    assert checkout_version(paths.BOARDS) is None


# The view


def line(text: str, port: str = USB, version: str | None = None, node: str | None = None) -> Event:
    return Event("line", port, NOW, text, version, node)


def texts(view: View, *events: Event) -> list[str]:
    return [f"{shown.name}: {shown.text}" for event in events for shown in view.show(event)[0]]


def test_a_board_is_called_by_its_port_until_it_tells_its_name() -> None:
    view = View()
    assert texts(view, line("hello"), line("I am 'n07'", node="n07"), line("hello")) == [
        "ttyUSB0: hello",
        "n07: I am 'n07'",
        "n07: hello",
    ]


def test_two_boards_with_the_same_name_are_told_apart() -> None:
    view = View()
    events = [line("x", USB, node="n07"), line("y", "rfc2217://lab:4000?x", node="n07")]
    assert texts(view, *events) == ["n07: x", "n07 on lab:4000: y"]
    assert texts(view, events[0]) == ["n07 on ttyUSB0: x"]
    assert short("/dev/pts/5") == "pts/5"


def test_remarks_and_what_is_missing() -> None:
    view = View()
    who = Event("who", USB, NOW, "limpet 0.1.0, node n07", "0.1.0", "n07")
    down = Event("down", USB, NOW, "the port is gone; waiting for it", lost=3)
    assert texts(view, who, down) == [
        "n07: -- 3 lines are missing here: the view was too slow for them",
        "n07: -- the port is gone; waiting for it",
    ]
    assert view.show(down)[1] == {
        "time": "2026-11-22T20:30:40.123Z",
        "port": USB,
        "node": "n07",
        "event": "down",
        "text": "the port is gone; waiting for it",
        "lost": 3,
    }


TRACEBACK = [
    line("Traceback (most recent call last):"),
    line('  File "limpet/__init__.py", line 1, in f'),
    line('  File "limpet/__init__.py", line 3, in g'),
    line("ValueError: no"),
]
FIRST = '"""limpet: sensor-node firmware for ESP32 boards on MicroPython."""'


def test_a_traceback_in_the_view_and_in_json() -> None:
    view = View()
    assert texts(view, *TRACEBACK)[:3] == [
        "ttyUSB0: Traceback (most recent call last):",
        'ttyUSB0:   File "limpet/__init__.py", line 1, in f',
        f"ttyUSB0:     → firmware/limpet/__init__.py:1: {FIRST}",
    ]
    view.show(TRACEBACK[0])
    shown = view.show(TRACEBACK[1])[1]
    assert shown["source"] == {"file": "firmware/limpet/__init__.py", "line": 1, "text": FIRST}
    assert (shown["traceback"], view.show(line("x"))[1]["traceback"]) == (True, True)
    assert view.show(line("y"))[1]["traceback"] is False


def test_other_firmware_on_the_board_is_said_once_a_traceback() -> None:
    view = View()
    view.show(line("node: limpet 0.0.9", version="0.0.9"))
    for _ in range(2):
        said = [text for text in texts(view, *TRACEBACK) if "--" in text]
        assert said == [
            "ttyUSB0: -- the board runs limpet 0.0.9 and this checkout is 0.1.0: the lines marked → "
            "may be others"
        ]
    view.show(TRACEBACK[0])
    assert view.show(TRACEBACK[1])[1]["source"]["board_runs"] == "0.0.9"
    view.show(line("node: limpet 0.1.0", version="0.1.0"))
    assert not [text for text in texts(view, *TRACEBACK) if "--" in text]


def test_lines_for_people_and_for_files() -> None:
    [shown] = View().show(line("21.5 °C"))[0]
    assert shown.dated() == "2026-11-22T20:30:40.123Z ttyUSB0 21.5 °C"
    assert shown.plain(10).endswith(":40.123 ttyUSB0     21.5 °C")


# The log


def test_the_log_is_appended_to_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in ("one", "two"):
        with Log(path) as log:
            assert log.write(text) is None
    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_is_full_is_told_once_and_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Log(path) as log:
        log.write("first")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        try:
            trouble = [log.write("a second line") for _ in range(3)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert trouble == [
            f"{path} cannot be written (No space left on device): the log has a gap until it can; "
            "make room for it.",
            None,
            None,
        ]
        assert path.read_text() == "first\n"
        assert log.write("last") is None
        assert log.write("of all") is None
    assert path.read_text() == "first\nlimpet monitor: 3 lines are missing here\nlast\nof all\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_device_that_takes_nothing() -> None:
    with Log(Path("/dev/full")) as log:
        assert log.write("x") == (
            "/dev/full cannot be written (No space left on device): the log has a gap until it can; "
            "make room for it."
        )
        assert log.write("x") is None


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, reason in {
        ".": "Is a directory",
        "none/log": "No such file or directory",
        "fifo": "No such",
    }.items():
        with pytest.raises(LimpetError, match=f"cannot be written .{reason}"):
            Log(tmp_path / name)


# Ports that come back


def port(name: str, location: str | None = "1-2.1", serial: str | None = None, pid: int = 0xEA60) -> Port:
    return Port(name, location, 0x10C4, pid, serial)


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ([port("/dev/ttyUSB0")], "/dev/ttyUSB0"),
        ([port("/dev/ttyUSB1")], "/dev/ttyUSB1"),
        ([port("/dev/ttyUSB0", "1-2.2"), port("/dev/ttyUSB1")], "/dev/ttyUSB1"),
        ([port("/dev/ttyUSB1", "1-2.2")], "/dev/ttyUSB0"),
        ([port("/dev/ttyUSB1", pid=1)], "/dev/ttyUSB0"),
        ([], "/dev/ttyUSB0"),
    ],
)
def test_a_bridge_without_a_serial_number_is_known_by_its_socket(there: list[Port], name: str) -> None:
    assert find_again(port("/dev/ttyUSB0"), lambda: there) == name


def test_a_bridge_with_a_serial_number_may_be_plugged_in_elsewhere() -> None:
    was = port("/dev/ttyUSB0", serial="A1")
    there = [port("/dev/ttyUSB1", "1-3", "A1"), port("/dev/ttyUSB2", "1-4", "A2")]
    assert find_again(was, lambda: there) == "/dev/ttyUSB1"
    twins = [port("/dev/ttyUSB1", "1-3", "A1"), port("/dev/ttyUSB2", "1-4", "A1")]
    assert find_again(was, lambda: twins) == "/dev/ttyUSB0"
    assert find_again(Port("rfc2217://lab:1"), lambda: there) == "rfc2217://lab:1"


def test_lines_that_nobody_takes_are_counted() -> None:
    events: Queue[Event] = Queue(2)
    link = Link(Port(USB), events, list)
    for number in range(5):
        link._tell("line", str(number))
    assert [events.get().text, events.get().text] == ["0", "1"]
    link._tell("line", "5")
    assert (event := events.get()).lost == 3
    assert event.text == "5"
