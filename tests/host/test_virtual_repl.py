"""The virtual board's serial port: friendly, raw and raw-paste REPL, soft reset, Ctrl-C."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.virtual.bench import Bench
from host_tools.virtual.world import I2CBus, World
from tests.host.virtual_rig import Rig, Terminal, compose

FILES = {"boot.py": b"print('boot ran')\n", "main.py": b"print('main ran')\n"}


class Memory:
    """An I2C part: what was written is read again."""

    address = 0x50
    stuck = False

    def __init__(self) -> None:
        self.held = b""

    def write(self, data: bytes) -> bool:
        self.held = data or self.held
        return True

    def read(self, n: int) -> bytes:
        return self.held[:n].ljust(n, b"\xff")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    world = World(i2c={(22, 21): I2CBus([Memory()])})
    with Bench() as bench:
        path = tmp_path_factory.mktemp("repl") / "flash.bin"
        yield Rig(bench, path, compose(FILES), world=world)


@pytest.fixture
def terminal(rig: Rig) -> Iterator[Terminal]:
    with rig.terminal() as terminal:
        terminal.prompt()
        yield terminal


def test_boot_runs_both_files_and_ends_at_the_prompt(rig: Rig) -> None:
    rig.says(">>> ")
    head = rig.log[: rig.log.index(">>> ")]
    assert head.index("rst:0x1 (POWERON_RESET)") < head.index("boot ran") < head.index("main ran")
    assert 'Type "help()" for more information.' in head


# The friendly REPL


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (b"6 * 7\r", b"6 * 7\r\n42\r\n>>> "),
        (b"x = 5\r", b"x = 5\r\n>>> "),
        (b"None\r", b"None\r\n>>> "),
        (b"\r", b"\r\n>>> "),
        (b"6 * 8\x7f7\r", b"6 * 8\x08 \x087\r\n42\r\n>>> "),
        (b"\x1b[A1\r", b"1\r\n1\r\n>>> "),
        ("'°é'\r".encode(), "'°é'\r\n'\\xb0\\xe9'\r\n>>> ".encode()),
        (b"max(1,\r7)\r", b"max(1,\r\n... 7)\r\n7\r\n>>> "),
        (b"'''a\rb'''\r", b"'''a\r\n... b'''\r\n'a\\nb'\r\n>>> "),
        (b"if 1: print(3)\r\r", b"if 1: print(3)\r\n... \r\n3\r\n>>> "),
        (b"abc\x03", b"abc\r\n>>> "),
    ],
)
def test_friendly_line(terminal: Terminal, typed: bytes, answer: bytes) -> None:
    terminal.send(typed)
    assert terminal.wait(answer) == answer


def test_friendly_block_and_traceback(terminal: Terminal) -> None:
    terminal.send(b"def f():\r    1 / 0\r\r")
    terminal.wait(b"... \r\n>>> ")
    terminal.send(b"f()\r")
    assert terminal.wait(b">>> ") == (
        b"f()\r\nTraceback (most recent call last):\r\n"
        b'  File "<stdin>", line 1, in <module>\r\n  File "<stdin>", line 2, in f\r\n'
        b"ZeroDivisionError: divide by zero\r\n>>> "
    )


def test_paste_mode(terminal: Terminal) -> None:
    terminal.send(b"\x05")
    terminal.wait(b"paste mode; Ctrl-C to cancel, Ctrl-D to finish\r\n=== ")
    terminal.send(b"for i in range(2):\r    print('n', i)\r\x04")
    assert b"\r\nn 0\r\nn 1\r\n>>> " in terminal.wait(b">>> ")
    terminal.send(b"\x05")
    terminal.wait(b"=== ")
    terminal.send(b"print('not this')\r\x03")
    assert b"\r\nnot this" not in terminal.wait(b">>> ")


def test_names_live_until_a_soft_reset_that_runs_both_files(terminal: Terminal) -> None:
    terminal.send(b"kept = 1\r")
    terminal.wait(b">>> ")
    terminal.send(b"kept\r")
    terminal.wait(b"\r\n1\r\n>>> ")
    terminal.send(b"\x04")
    said = terminal.wait(b">>> ")
    assert said.index(b"MPY: soft reboot\r\n") < said.index(b"boot ran") < said.index(b"main ran")
    terminal.send(b"kept\r")
    assert b"NameError" in terminal.wait(b">>> ")
    terminal.send(b"import machine; machine.reset_cause()\r")
    terminal.wait(b"\r\n5\r\n>>> ")


# The raw REPL


def test_raw_mode_byte_for_byte(terminal: Terminal) -> None:
    terminal.send(b"\x01")
    assert terminal.wait(b">") == b"\r\nraw REPL; CTRL-B to exit\r\n>"
    terminal.send(b"print('hello')\x04")
    assert terminal.wait(b"\x04>") == b"OKhello\r\n\x04\x04>"
    terminal.send(b"lost\x03print(2)\x04")  # Ctrl-C forgets what was typed
    assert terminal.wait(b"\x04>") == b"OK2\r\n\x04\x04>"
    terminal.send(b"\x01")
    assert terminal.wait(b">") == b"raw REPL; CTRL-B to exit\r\n>"
    terminal.send(b"\x04")
    said = terminal.wait(b"raw REPL; CTRL-B to exit\r\n>")
    assert said.startswith(b"OK\r\nMPY: soft reboot\r\nboot ran\r\n")
    assert b"main ran" not in said
    terminal.send(b"\x02")
    assert terminal.wait(b">>> ").startswith(b"\r\nMicroPython ")


def test_raw_mode_errors(rig: Rig) -> None:
    with rig.raw_repl() as board:
        out, error = board.exec_raw("print(1)\ndef f():\n    1 / 0\nf()")
        assert out == b"1\r\n"
        assert error == (
            b'Traceback (most recent call last):\r\n  File "<stdin>", line 4, in <module>\r\n'
            b'  File "<stdin>", line 3, in f\r\nZeroDivisionError: divide by zero\r\n'
        )
        out, error = board.exec_raw("x = (")
        assert (out, b"SyntaxError" in error) == (b"", True)
        assert board.exec("print('still there')") == b"still there\r\n"


@pytest.mark.parametrize("raw_paste", [True, False])
def test_ctrl_c_in_raw_mode(rig: Rig, raw_paste: bool) -> None:
    with rig.raw_repl() as board:
        board.use_raw_paste = raw_paste
        board.exec_raw_no_follow("print('on')\nwhile True: pass")
        board.read_until(1, b"on\r\n")
        board.serial.write(b"\x03")
        _, error = board.follow(20)
        assert b"KeyboardInterrupt: \r\n" in error
        assert board.exec("print(2)") == b"2\r\n"


def test_raw_paste_flow_control(terminal: Terminal) -> None:
    terminal.send(b"\x01")
    terminal.wait(b">")
    terminal.send(b"\x05A\x01")
    header = terminal.wait(b"\x01\x80\x00\x01")
    assert header == b"R\x01\x80\x00\x01"  # windows of 128 bytes, two of them free
    terminal.send(b"#" * 128)
    assert terminal.wait(b"\x01") == b"\x01"
    terminal.send(b"\nprint('pasted')\x04")
    assert terminal.wait(b"\x04>") == b"\x04pasted\r\n\x04\x04>"
    terminal.send(b"\x05A\x01")
    terminal.wait(b"\x01\x80\x00\x01")
    terminal.send(b"print('not this')\x03")
    assert terminal.wait(b"\x04>").endswith(b"KeyboardInterrupt: \r\n\x04>")
    terminal.send(b"\x05B\x01")  # there is no mode B
    assert terminal.wait(b"\x00>") == b"R\x00>"
    terminal.send(b"\x02")
    terminal.wait(b">>> ")


def test_a_large_program_and_100_kb_of_output(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    # A reader who takes nothing for a second loses what comes then; on a busy machine that may be we.
    monkeypatch.setattr("host_tools.virtual.outbox._PATIENCE", 30.0)
    program = "total = 0\n" + "total += 1\n" * 1500
    with rig.raw_repl() as board:
        assert board.exec(program + "print(total)") == b"1500\r\n"
        out = board.exec("for i in range(2000):\n    print('%050d' % i)")
    assert out == b"".join(b"%050d\r\n" % i for i in range(2000))


@pytest.mark.parametrize(
    "code", ["raise SystemExit", "import machine; machine.soft_reset()", "import sys; sys.exit()"]
)
def test_system_exit_is_a_soft_reset_in_the_same_mode(rig: Rig, code: str) -> None:
    with rig.raw_repl() as board:
        since = len(rig.log)  # it may have been about to start before
        board.exec_raw_no_follow(f"try:\n    {code}\nfinally:\n    print('finally')")
        board.read_until(1, b"finally\r\n\x04\x04MPY: soft reboot\r\n")
        board.read_until(1, b"raw REPL; CTRL-B to exit\r\n")
        assert board.exec("import machine; print(machine.reset_cause())") == b"5\r\n"
    assert "main ran" not in rig.log[since:]


# Ctrl-C

SETUP = b"""\x05
import time, machine, hashlib
bus = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21))
def good():
    bus.writeto(0x50, b'abc')
    return bus.readfrom(0x50, 3) == b'abc' and bus.scan() == [0x50]

print('set' + 'up')
\x04"""
LOOPS = {
    "sleep": b"time.sleep_ms(1)",
    "a long sleep": b"time.sleep(3600)",
    "a bus": b"bus.readfrom(0x50, 3)",
    "many bus calls": b"bus.scan()",
    "output": b"print('x' * 40)",
}


@pytest.mark.parametrize("name", LOOPS)
def test_ctrl_c_stops_running_code_and_the_board_stays_in_step(terminal: Terminal, name: str) -> None:
    terminal.send(SETUP.replace(b"\n", b"\r"))
    terminal.wait(b"\r\nsetup\r\n>>> ")
    for turn in range(8):
        terminal.send(b"if print('go') is None:\r while True: %s\r\r" % LOOPS[name])
        terminal.wait(b"\r\ngo\r\n")
        time.sleep(0.007 * turn)
        terminal.send(b"\x03")
        terminal.wait(b"KeyboardInterrupt: \r\n>>> ")
        terminal.send(b"good()\r")  # defined before: the RAM is as it was
        terminal.wait(b"good()\r\nTrue\r\n>>> ")


@pytest.mark.parametrize(
    "statement",
    [
        b"pass",
        b"x = [bytearray(20) for i in range(50)]",
        b"f = open('/t', 'w'); n = f.write('abc' * 100); f.close()",
    ],
)
def test_ctrl_c_into_code_that_never_pauses_gives_a_prompt(terminal: Terminal, statement: bytes) -> None:
    # The one case where the RAM is lost: see docs/virtual-board.md.
    for turn in range(3):
        terminal.send(b"if print('go') is None:\r while True: %s\r\r" % statement)
        terminal.wait(b"\r\ngo\r\n")
        time.sleep(0.01 * turn)
        terminal.send(b"\x03")
        terminal.wait(
            b"KeyboardInterrupt: \r\n(virtual board: the code never paused, so RAM is lost)\r\n>>> "
        )
        terminal.send(b"f = open('/u', 'w'); f.write('whole'); f.close(); open('/u').read()\r")
        terminal.wait(b"\r\n'whole'\r\n>>> ")


def test_code_can_catch_ctrl_c(terminal: Terminal) -> None:
    terminal.send(b"\x05import time\rfor i in range(3):\r try:\r  print('try', i)\r")
    terminal.send(b"  while True: time.sleep_ms(1)\r")
    terminal.send(b" except KeyboardInterrupt: print('caught', i)\r\x04")
    for i in range(3):
        terminal.wait(b"try %d\r\n" % i)
        terminal.send(b"\x03")
        terminal.wait(b"caught %d\r\n" % i)
    terminal.wait(b">>> ")


def test_a_burst_of_ctrl_c(terminal: Terminal) -> None:
    pid = terminal.rig.pid
    for _ in range(5):
        terminal.send(b"import time; print('go'); time.sleep(3600)\r")
        terminal.wait(b"\r\ngo\r\n")
        terminal.send(b"\x03" * 5 + b"print('ever' + 'green')\r")
        terminal.wait(b"\r\nevergreen\r\n>>> ")
    assert terminal.rig.pid == pid


def test_ctrl_c_is_heard_behind_input_that_nobody_reads(terminal: Terminal) -> None:
    terminal.send(b"import time; print('go'); time.sleep(3600)\r")
    terminal.wait(b"\r\ngo\r\n")
    terminal.send(b"z" * 20000)
    terminal.send(b"\x03")
    terminal.wait(b"KeyboardInterrupt: \r\n")


def test_ctrl_c_while_the_board_starts_stops_main(rig: Rig, tmp_path: Path) -> None:
    endless = compose({"main.py": b"import time\nprint('begun')\nwhile True: time.sleep(1)\n"})
    other = Rig(rig.bench, tmp_path / "endless.bin", endless)
    with other.terminal() as terminal:
        for _ in range(3):
            since = len(other.log)
            other.power_off()
            other.power_on()
            terminal.wait(b"POWERON_RESET")
            terminal.send(b"\x03")
            other.says(">>> ", since)
            assert "ended by itself" not in other.log


def test_ctrl_c_behind_a_soft_reset_stops_main(rig: Rig, tmp_path: Path) -> None:
    """Typed at once: the process that reads the Ctrl-D has the rest in its terminal when it ends."""
    main = b"print('main ran')\nimport time\nwhile True:\n    time.sleep_ms(50)\n"
    with Bench() as bench:
        busy = Rig(bench, tmp_path / "flash.bin", compose({"main.py": main}))
        busy.says("main ran")
        with busy.terminal() as terminal:
            terminal.send(b"\x03")
            terminal.wait(b">>> ")
            for _ in range(5):
                terminal.send(b"\x04\x03\x01")
                terminal.wait(b"KeyboardInterrupt")
                terminal.wait(b"raw REPL; CTRL-B to exit\r\n>")
                terminal.send(b"\x02")
                terminal.wait(b">>> ")


def test_code_that_gets_no_time_is_not_taken_for_busy(rig: Rig, terminal: Terminal) -> None:
    """As on a machine with too much to do. RAM is lost only when code computes on and on."""
    terminal.send(b"kept = 5\rimport time\rprint('be' + 'gun'); time.sleep(60)\r")
    terminal.wait(b"begun")
    pid = rig.pid
    os.kill(pid, signal.SIGSTOP)
    terminal.send(b"\x03")
    time.sleep(0.6)  # twice as long as busy code is let go on
    os.kill(pid, signal.SIGCONT)
    terminal.wait(b"KeyboardInterrupt")
    terminal.send(b"print('still', kept)\r")
    terminal.wait(b"\r\nstill 5\r\n")
    assert rig.pid == pid


def test_input_reads_the_serial_port(terminal: Terminal) -> None:
    terminal.send(b"import sys; sys.stdin.readline()\r")
    terminal.wait(b"readline()\r\n")
    terminal.send(b"from the host\n")
    assert b"'from the host\\n'" in terminal.wait(b">>> ")


def test_a_name_that_is_no_utf8_is_an_error_like_any_other(rig: Rig) -> None:
    boots = rig.board.boots
    with rig.terminal() as terminal:
        terminal.prompt()
        terminal.send(b"\xd5\xb4\xa3\xf9\r")
        terminal.wait(b"NameError: name '\xd5\xb4\xa3\xf9' isn't defined\r\n>>> ")
        terminal.prompt()
    assert rig.board.boots == boots
