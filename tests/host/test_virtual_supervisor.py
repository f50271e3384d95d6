"""What happens to a virtual board when things go wrong around it, and what it costs."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from host_tools import paths
from host_tools.virtual.bench import Bench
from host_tools.virtual.outbox import MOST_PENDING
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig, compose

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system has no /proc")


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# A reader that sleeps, or none


def test_a_reader_that_takes_nothing_does_not_stop_the_board(bench: Bench, tmp_path: Path) -> None:
    main = b"for i in range(20000): print('%060d' % i)\nprint('all', 'printed')\n"
    rig = Rig(bench, tmp_path / "flash.bin")
    with serial.Serial(rig.port, exclusive=True):
        rig.says(">>> ")
        rig.flash.write_bytes(compose({"main.py": main}))
        rig.power_off()
        rig.power_on()
        rig.says("all printed")
        pending = rig.inside(lambda: len(rig.board.port._outbox))
        assert pending <= MOST_PENDING + 65536


def test_a_slow_reader_gets_everything(bench: Bench, tmp_path: Path) -> None:
    rig = Rig(bench, tmp_path / "flash.bin")
    rig.says(">>> ")
    with rig.terminal() as terminal:
        terminal.prompt()
        terminal.send(b"for i in range(6000): print('%060d' % i)\r\r")
        got = b""
        while b"%060d\r\n" % 5999 not in got:
            got += terminal.port.read(4000)
            time.sleep(0.002)
        numbers = [int(line) for line in got.split(b"\r\n") if len(line) == 60]
        assert numbers == list(range(6000))


def test_without_a_reader_the_board_runs_on(bench: Bench, tmp_path: Path) -> None:
    main = b"for i in range(20000): print('%060d' % i)\nprint('all', 'printed')\n"
    rig = Rig(bench, tmp_path / "flash.bin", compose({"main.py": main}))
    rig.says("all printed")
    rig.says(">>> ")
    assert rig.eval("6 * 7") == 42


# The port


def test_the_port_can_be_opened_again_and_again(bench: Bench, tmp_path: Path) -> None:
    rig = Rig(bench, tmp_path / "flash.bin")
    rig.says(">>> ")
    for turn in range(50):
        with rig.terminal() as terminal:
            terminal.prompt()
            terminal.send(b"%d + 1\r" % turn)
            terminal.wait(b"\r\n%d\r\n>>> " % (turn + 1))


def test_a_second_program_is_refused(bench: Bench, tmp_path: Path) -> None:
    rig = Rig(bench, tmp_path / "flash.bin")
    with serial.Serial(rig.port, exclusive=True):
        with pytest.raises(serial.SerialException):
            serial.Serial(rig.port, exclusive=True)
        command = [sys.executable, "-m", "mpremote", "connect", rig.port, "exec", "print(1)"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert "in use" in done.stdout + done.stderr


# Processes that die


def test_a_killed_micropython_is_told_and_started_anew(bench: Bench, tmp_path: Path) -> None:
    rig = Rig(
        bench,
        tmp_path / "flash.bin",
        compose({"main.py": b"import machine\nprint('cause', machine.reset_cause())"}),
    )
    rig.says("cause 1")
    since = len(rig.log)
    os.kill(rig.pid, signal.SIGKILL)
    rig.says("virtual board: MicroPython ended by itself; rebooting", since)
    rig.says("cause 2", since)
    rig.says(">>> ", since)
    assert rig.eval("6 * 7") == 42


SUPERVISOR = """
import sys, time
from pathlib import Path
from host_tools.virtual.bench import Bench
from tests.host.virtual_rig import Rig, compose
with Bench() as bench:
    rig = Rig(bench, Path(sys.argv[1]), compose({"main.py": sys.argv[2].encode()}))
    rig.says("main ran")
    print(rig.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("rest", ["pass", "while True: pass", "import time; time.sleep(600)"])
def test_micropython_does_not_outlive_a_killed_supervisor(tmp_path: Path, rest: str) -> None:
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path / "flash.bin"), f"print('main ran')\n{rest}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=paths.ROOT) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert alive(pid)
        supervisor.kill()
    wait_until(lambda: not alive(pid), "the end of MicroPython")


# Many, and what they leave


@needs_proc
def test_twenty_boards_at_once_and_nothing_left_behind(tmp_path: Path) -> None:
    with Bench() as warm_up:
        Rig(warm_up, tmp_path / "warm.bin").says(">>> ")
    gc.collect()
    before = open_files()
    main = b"import machine\nmachine.RTC().memory(b'mine')\nprint('up', machine.unique_id())\n"
    with Bench() as bench:
        rigs = [Rig(bench, tmp_path / f"{i}.bin", compose({"main.py": main})) for i in range(20)]
        for rig in rigs:
            rig.says(">>> ")
        assert len({rig.port for rig in rigs}) == 20
        for i, rig in enumerate(rigs):
            assert rig.eval(f"{i} * 2") == i * 2
        pids = [rig.pid for rig in rigs]
    gc.collect()
    assert open_files() == before
    assert [pid for pid in pids if alive(pid)] == []


@needs_proc
def test_resets_leave_nothing_behind(bench: Bench, tmp_path: Path) -> None:
    rig = Rig(bench, tmp_path / "flash.bin")
    rig.says(">>> ")
    before = open_files()
    first = rig.pid
    for _ in range(20):
        rig.power_off()
        assert rig.board.pid is None
        rig.power_on()
    rig.says(">>> ", times=2)
    assert open_files() == before
    assert not alive(first)


@needs_proc
def test_an_idle_board_costs_nothing(bench: Bench, tmp_path: Path) -> None:
    rig = Rig(bench, tmp_path / "flash.bin")
    rig.says(">>> ")
    began, used, mine = time.monotonic(), cpu_seconds(rig.pid), time.process_time()
    time.sleep(1.5)
    passed = time.monotonic() - began
    assert cpu_seconds(rig.pid) - used <= 0.02 * passed
    assert time.process_time() - mine <= 0.1 * passed  # the supervisor in this process
