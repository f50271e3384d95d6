"""The real mpremote command against the virtual board's serial ports."""

import hashlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.virtual.bench import Bench
from tests.host.virtual_rig import Rig, compose

FILES = {"boot.py": b"", "main.py": b"import time\nprint('main ran')\nwhile True: time.sleep_ms(50)\n"}
# Every value of a byte, the control characters of the REPL among them, in every neighbourhood.
BINARY = b"".join(bytes((i * step & 0xFF) for i in range(256)) for step in range(1, 240, 2))


class UrlRig(Rig):
    """A board that is reached over the network."""

    @property
    def port(self) -> str:
        return self.url


@pytest.fixture(scope="module", params=["device", "rfc2217"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """With a main.py that never ends, as on a real node."""
    path = tmp_path_factory.mktemp("mpremote") / "flash.bin"
    with Bench() as bench:
        rig = (
            Rig(bench, path, compose(FILES))
            if request.param == "device"
            else UrlRig(bench, path, compose(FILES), rfc2217=("127.0.0.1", 0))
        )
        rig.says("main ran")
        yield rig


def mpremote(rig: Rig, *words: str, ok: bool = True, typed: bytes | None = None) -> str:
    command = [sys.executable, "-m", "mpremote", "connect", rig.port, *words]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, input=typed)
    output = (done.stdout + done.stderr).decode().replace("\r", "")
    assert (done.returncode == 0) is ok, output
    return output


def test_exec_eval_and_run(rig: Rig, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nfor i in range(3):\n    print('line', i)\n")
    assert mpremote(rig, "exec", "print(6 * 7)") == "42\n"
    assert mpremote(rig, "eval", "'a' + 'b'") == "ab\n"
    assert mpremote(rig, "run", str(script)) == "line 0\nline 1\nline 2\n"
    assert "ZeroDivisionError" in mpremote(rig, "exec", "1 / 0", ok=False)


def test_files(rig: Rig, tmp_path: Path) -> None:
    assert len(BINARY) > 30_000
    here, back = tmp_path / "data.bin", tmp_path / "back.bin"
    here.write_bytes(BINARY)
    mpremote(rig, "fs", "mkdir", ":folder", "+", "fs", "cp", str(here), ":folder/data.bin")
    listing = mpremote(rig, "fs", "ls", ":folder")
    assert f"{len(BINARY)} data.bin" in listing
    assert hashlib.sha256(BINARY).hexdigest() in mpremote(rig, "fs", "sha256sum", ":folder/data.bin")
    mpremote(rig, "fs", "cp", ":folder/data.bin", str(back))
    assert back.read_bytes() == BINARY
    here.write_text("plain text\n")
    mpremote(rig, "cp", str(here), ":text")
    assert mpremote(rig, "cat", ":text") == "plain text\n"
    assert "main.py" in mpremote(rig, "ls")
    mpremote(rig, "rm", ":folder/data.bin", "+", "rmdir", ":folder", "+", "rm", ":text")
    assert "folder" not in mpremote(rig, "ls")
    assert "No such file" in mpremote(rig, "cat", ":text", ok=False)


def test_df(rig: Rig) -> None:
    line = mpremote(rig, "df").splitlines()[1].split()
    assert (int(line[1]), line[-1]) == (0x17C000, "/")


def test_soft_reset_reset_and_resume(rig: Rig) -> None:
    since = len(rig.log)
    mpremote(rig, "exec", "x = 5")
    assert mpremote(rig, "resume", "exec", "print(x)") == "5\n"
    mpremote(rig, "soft-reset")
    assert "NameError" in mpremote(rig, "resume", "exec", "print(x)", ok=False)
    assert "main ran" not in rig.log[since:]
    mpremote(rig, "reset")
    rig.says("SW_CPU_RESET", since)
    rig.says("main ran", since)
    assert mpremote(rig, "exec", "print(1)") == "1\n"  # it stops main.py again


def test_the_repl_on_a_terminal(rig: Rig) -> None:
    """Enter, ask, and leave with Ctrl-]. mpremote's REPL wants a device; pyserial has one for URLs."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "mpremote", "connect", rig.port, "resume", "repl"]
    hello = b"Ctrl-x"
    if isinstance(rig, UrlRig):
        command = [sys.executable, "-m", "serial.tools.miniterm", "--raw", rig.port, "115200"]
        hello = b"Quit: Ctrl+]"
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    seen = b""

    def wait(text: bytes, typed: bytes = b"") -> None:
        nonlocal seen
        deadline = time.monotonic() + 30
        while text not in seen:
            assert time.monotonic() < deadline, seen
            os.write(master, typed)  # again: mpremote forgets what comes before its terminal is set up
            while select.select([master], [], [], 0.5)[0] and text not in seen:
                seen += os.read(master, 1000)

    try:
        wait(hello)
        wait(b">>> ", b"\x03")
        wait(b"evergreen\r", b"print('ever' + 'green')\r")
        os.write(master, b"\x1d")
        assert process.wait(20) == 0
    finally:
        process.kill()
        os.close(master)
        process.wait()


def test_the_next_program_can_work_after_one_that_was_killed(rig: Rig, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import time\nprint('on')\nwhile True:\n    time.sleep_ms(5)\n")
    command = [sys.executable, "-m", "mpremote", "connect", rig.port, "run", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"on"
        since = len(rig.log)
        process.kill()
    assert mpremote(rig, "resume", "exec", "print(6 * 7)") == "42\n"
    assert "KeyboardInterrupt" in rig.log[since:]
