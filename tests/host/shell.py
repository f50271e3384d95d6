"""The `limpet` command as a user runs it: a process of its own, from the shell's view."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LIMPET = str(Path(sys.executable).with_name("limpet"))
DEADLINE = 150.0  # seconds; many times what a busy machine needs
_MARK = "LIMPET_TEST_MARK"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """Ours, without what would colour or widen the output."""
    plain = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "LIMPET_UMQTT")}
    return {**plain, "COLUMNS": "80", "NO_COLOR": "1", **changes}


def limpet(*words: str | Path, cwd: Path | None = None, **changes: str) -> Done:
    """Run the command to its end."""
    done = subprocess.run(
        [LIMPET, *map(str, words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=DEADLINE,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def refused(done: Done, sentence: str, code: int = 1) -> None:
    """Assert that a command was refused with exactly this sentence, and no traceback."""
    assert (done.err.strip(), done.out, done.code) == (f"limpet: {sentence}", "", code)


class Running:
    """A command that stays, in a session of its own. Use as a context manager: what is left is killed."""

    def __init__(
        self, *words: str | Path, stdout: int = subprocess.PIPE, cwd: Path | None = None, **changes: str
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [LIMPET, *map(str, words)],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",  # the raw REPL's bytes in a board's log
            env=environment(**changes, **{_MARK: self.mark}),
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_as_from_a_terminal,
        )
        self.lines: list[str] = []
        self.err = ""
        self._hung_up = False
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._threads = [threading.Thread(target=self._read_err, daemon=True)]
        if stdout == subprocess.PIPE:
            self._threads.append(threading.Thread(target=self._read_out, daemon=True))
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.wait()

    def line(self, seen: str = "") -> str:
        """The next line of its output that has `seen` in it."""
        end = time.monotonic() + DEADLINE
        while True:
            line = self._queue.get(timeout=max(end - time.monotonic(), 0.01))
            assert line is not None, f"it ended without {seen!r}: {self.lines} {self.err}"
            if seen in line:
                return line

    def send(self, number: int, group: bool = True) -> None:
        """Send a signal to the whole process group, as a terminal does, or to the command alone."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def hang_up(self) -> None:
        """Close our end of its output, as `head` does when it has seen enough."""
        self._hung_up = True

    def wait(self) -> int:
        """Its exit code."""
        code = self.process.wait(DEADLINE)
        for thread in self._threads:
            thread.join(DEADLINE)
        return code

    def left(self) -> list[str]:
        """The processes that it has started and that still run (Linux)."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{_MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # ended meanwhile
        return found

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))
                self._queue.put(self.lines[-1])
                if self._hung_up:
                    return
        self._queue.put(None)

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.err += line


def _as_from_a_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def virtual_board(*words: str | Path, **changes: str) -> Iterator[tuple[str, Running]]:
    """`limpet virtual --log` with the URL of the port that it printed first."""
    with Running("virtual", "--log", *words, stdout=subprocess.PIPE, cwd=None, **changes) as running:
        yield running.line().split()[0], running


def on_board(port: str, code: str) -> str:
    """Run Python on the board behind `port`, by plain mpremote; the board restarts afterwards."""
    words: Sequence[str] = [sys.executable, "-m", "mpremote", "connect", port, "exec", code, "+", "reset"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
