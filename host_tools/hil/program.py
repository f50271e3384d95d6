"""Programs that a rig file names: a switch, a heater, a thermometer. No shell, and never for ever."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from host_tools.hil.blocked import Blocked

_PATIENCE_S = 20.0
_MOST_QUOTED = 200


@dataclass(frozen=True)
class Ended:
    """A program that has come to its end; `text` is what it said, standard error among it."""

    name: str
    code: int
    text: str

    @property
    def last_line(self) -> str:
        """The last line that says something."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return lines[-1][:_MOST_QUOTED] if lines else "it said nothing"


def run(command: Sequence[str], seconds: float = _PATIENCE_S) -> str:
    """Run a program; what it said. Raises Blocked when it cannot be run, fails, or takes too long."""
    done = ended(command, seconds)
    if done.code:
        raise Blocked(f"'{done.name}' failed with exit code {done.code}: {done.last_line.rstrip('.')}.")
    return done.text


def ended(
    command: Sequence[str], seconds: float = _PATIENCE_S, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run a program to its end, whatever its exit code is; after so many seconds it is killed, and its
    children with it. `environment` is its own; None: ours.

    Raises Blocked when it cannot be run, or takes too long.
    """
    name = command[0]
    # A file takes no part in the waiting: what the program leaves running may go on writing to it.
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            why = (error.strerror or type(error).__name__).lower()
            raise Blocked(f"'{name}' cannot be run ({why}): install it, or correct the rig file.") from None
        try:
            code = process.wait(seconds)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise Blocked(
                    f"'{name}' did not end within {seconds:g} s, and was killed: see what it waits for."
                ) from None
            raise
        said.seek(0)
        return Ended(name, code, said.read().decode(errors="replace"))
