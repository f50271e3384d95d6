"""The processes that flash boards, one for each, seen from their parent.

They need a while to load esptool, so they are started first, and told what to do later.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

_STARTS_S = 60.0  # a machine that is busy with many boards


@dataclass(frozen=True)
class Crew:
    """Processes that wait for their jobs."""

    workers: tuple["Worker", ...]
    image: int
    """The descriptor of a file that all of them have open, to be filled with the image."""


@contextlib.contextmanager
def crew(ports: Sequence[str]) -> Iterator[Crew]:
    """A process for the board on each port. However the `with` block is left, none of them stays."""
    with tempfile.TemporaryFile() as image, contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(port, image.fileno())) for port in ports]
        yield Crew(tuple(workers), image.fileno())


class Worker:
    """The process for one board. It ends with the `with` block."""

    def __init__(self, port: str, image: int) -> None:
        self.port = port
        """Its board's."""
        self._doing = "starting"
        self._text = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "host_tools.flashing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            pass_fds=[image],
            start_new_session=True,  # a Ctrl-C is for us
        )
        assert self._process.stdin and self._process.stdout
        self._in, self.out = self._process.stdin, self._process.stdout
        self._allow(_STARTS_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for stream in (self._in, self.out, self._errors):
            with contextlib.suppress(OSError):
                stream.close()

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()

    def send(self, line: str) -> None:
        """Tell it something."""
        with contextlib.suppress(OSError):  # it has ended, which is seen where it is listened to
            self._in.write(line.encode() + b"\n")
            self._in.flush()

    def reports(self) -> list[dict[str, Any]] | None:
        """What it has said since; None when it says no more. Called when its output can be read."""
        data = os.read(self.out.fileno(), 65536)
        if not data:
            return None
        *lines, self._text = (self._text + data).split(b"\n")
        reports = [json.loads(line) for line in lines]
        for report in reports:
            if report["report"] == "step":
                self._doing = report["name"]
                self._patience = report["patience"]
        self._allow(self._patience)
        return reports

    def _allow(self, seconds: float) -> None:
        self._patience = seconds
        self.due = time.monotonic() + seconds

    def silent(self) -> str:
        """The sentence for one that has said nothing for too long."""
        return (
            f"{self.port}: nothing has happened for {self._patience:.0f} s while {self._doing}: unplug the "
            "board, plug it in, and try again."
        )

    def broken(self) -> str:
        """The sentence for one that has ended without a word."""
        self._errors.seek(0)
        last = (self._errors.read().decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        return f"{self.port}: the process that flashes it broke off while {self._doing} ({last}): try again."
