"""`limpet demo`: what it shows, how it ends, and that nothing of it stays."""

import json
import os
import pty
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from host_tools.broker.mosquitto import find_executable
from tests.host.shell import DEADLINE, LIMPET, Running, environment
from tests.host.stand import wait_until

READING = re.compile(
    r"\d\d:\d\d:\d\d demo-01 (bme280/(temperature|pressure|humidity)|probe/temperature|wind/speed) "
    r"-?\d+\.\d+ (°C|Pa|% RH|m/s)( \(time recovered\))?"
)


def test_two_at_once_end_by_themselves_with_both_brokers(tmp_path: Path) -> None:
    with (
        Running("demo", "--readings", "20", TMPDIR=str(tmp_path)) as first,
        Running("demo", "-n", "20", "--broker", "embedded", TMPDIR=str(tmp_path)) as second,
    ):
        for running in (first, second):
            assert running.wait() == 0, running.err
            readings = [line for line in running.lines if not line.startswith("#")]
            assert re.fullmatch(r"20 readings, 0 lost, 0 duplicate, \d+\.\d s", readings.pop())
            assert len(readings) == 20
            assert all(READING.fullmatch(line) for line in readings), readings
            assert "\x1b" not in "".join(running.lines)
            assert not running.left()
        assert "embedded broker (amqtt" in second.err
        if find_executable():
            assert "Mosquitto 2" in first.err
    assert not list(tmp_path.iterdir())


def test_readings_for_programs(tmp_path: Path) -> None:
    with Running("demo", "--readings", "6", "--json", TMPDIR=str(tmp_path)) as running:
        assert running.wait() == 0
    *items, summary = map(json.loads, running.lines)
    readings = [item for item in items if "seq" in item]
    assert [reading["seq"] for reading in readings] == list(range(6))
    assert all(isinstance(reading["value"], float) for reading in readings)
    assert (summary["readings"], summary["lost"], summary["duplicates"]) == (6, 0, 0)


@pytest.mark.parametrize(
    ("number", "group", "code"),
    [
        (signal.SIGINT, True, 0),
        (signal.SIGINT, False, 0),
        (signal.SIGTERM, False, 128 + signal.SIGTERM),
        (signal.SIGHUP, True, 128 + signal.SIGHUP),
    ],
)
def test_a_signal_ends_all_of_it(number: int, group: bool, code: int, tmp_path: Path) -> None:
    with Running("demo", TMPDIR=str(tmp_path)) as running:
        running.line("wind/speed")
        assert len(running.left()) > 2
        running.send(number, group)
        assert running.wait() == code
        assert (running.left(), list(tmp_path.iterdir())) == ([], [])
        assert "Traceback" not in running.err
        if not code:
            assert re.fullmatch(r"\d+ readings, 0 lost, 0 duplicate, \d+\.\d s", running.lines[-1])


def test_impatience_breaks_nothing(tmp_path: Path) -> None:
    with Running("demo", TMPDIR=str(tmp_path)) as running:
        running.line("wind/speed")
        while running.process.poll() is None:
            with suppress(ProcessLookupError):
                running.send(signal.SIGINT)
            time.sleep(0.005)
        assert running.wait() == 0
        assert (running.left(), list(tmp_path.iterdir())) == ([], [])
        assert "Traceback" not in running.err


@pytest.mark.parametrize("delay", [0.2, 0.35, 0.5, 0.65])
def test_interrupted_while_it_starts(delay: float, tmp_path: Path) -> None:
    with Running("demo", TMPDIR=str(tmp_path)) as running:
        time.sleep(delay)  # wherever that is: every place must do
        running.send(signal.SIGINT)
        assert running.wait() in (0, 130, -signal.SIGINT)
        # A process that was being started just then ends by itself, as after kill -9.
        wait_until(lambda: not running.left(), "the end of all processes")
        assert list(tmp_path.iterdir()) == []
        assert "host_tools" not in running.err  # Python's own start may show a traceback, ours not


def test_killed_it_takes_broker_and_micropython_with_it(tmp_path: Path) -> None:
    with Running("demo", TMPDIR=str(tmp_path)) as running:
        running.line("wind/speed")
        running.send(signal.SIGKILL, group=False)
        running.wait()
        wait_until(lambda: not running.left(), "the end of broker and MicroPython")


def test_nobody_reads_it_any_more(tmp_path: Path) -> None:
    with Running("demo", TMPDIR=str(tmp_path)) as running:
        running.line("demo-01")
        running.hang_up()
        assert running.wait() == 0
        assert "Traceback" not in running.err
        assert (running.left(), list(tmp_path.iterdir())) == ([], [])


def on_terminal(*words: str, until: bytes, **changes: str) -> tuple[int, bytes]:
    """Run the command on a terminal, press Ctrl-C when `until` was shown; its exit code and the screen."""
    pid, master = pty.fork()
    if pid == 0:
        os.execve(LIMPET, [LIMPET, *words], {**environment(**changes), "LINES": "24"})
    screen = b""
    pressed = False
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            screen += os.read(master, 65536)
        except OSError:  # the terminal is gone
            break
        if until in screen and not pressed:
            os.write(master, b"\x03")
            pressed = True
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(master)
    assert pressed, screen
    return code, screen


def test_a_terminal_gets_a_table_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    code, screen = on_terminal("demo", until=b"Pa", TMPDIR=str(tmp_path), TERM="xterm")
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", screen).decode()
    assert code == 0
    assert all(word in text for word in ("last minute", "age", "bme280/temperature", "demo-01 up"))
    assert re.search(r"\d+ readings, 0 lost, 0 duplicate, \d+\.\d s\s*$", text)
    assert b"\x1b[?25h" in screen[screen.rindex(b"readings,") - 400 :], "the cursor is back"
    assert not list(tmp_path.iterdir())


def test_a_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    code, screen = on_terminal("demo", until=b"wind/speed", TERM="dumb", TMPDIR=str(tmp_path))
    assert code == 0
    assert b"\x1b" not in screen
    assert re.search(rb"\d+ readings, 0 lost, 0 duplicate, \d+\.\d s\s*$", screen)


def test_no_colour_when_asked(tmp_path: Path) -> None:
    _, screen = on_terminal("demo", until=b"Pa", TERM="xterm", TMPDIR=str(tmp_path))  # NO_COLOR is set
    assert not re.search(rb"\x1b\[(\d+;)*3[0-7]m", screen)


def test_a_terminal_without_the_degree_sign(tmp_path: Path) -> None:
    done = subprocess.run(
        [LIMPET, "demo", "-n", "3"],
        capture_output=True,
        timeout=DEADLINE,
        env=environment(LC_ALL="C", LANG="C", PYTHONIOENCODING="ascii", TMPDIR=str(tmp_path)),
        check=False,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert b" ?C" in done.stdout
