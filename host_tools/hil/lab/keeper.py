"""A process that gives a place back when we end, however we end: labgrid would keep it for us for ever."""

import contextlib
import os
import subprocess
import tempfile

from host_tools.hil.lab.client import Client
from host_tools.hil.program import Ended
from host_tools.hil.unshared import Unshared

_PATIENCE_S = 60.0
_SCRIPT = """
# A line when we are done. Without one the kernel has closed the pipe, and what we had begun may still go on.
read -r done || sleep 5
release=$1 cancel=$2; shift 2
"$@" release-from "$release"
exec "$@" cancel-reservation "$cancel"
"""


class Keeper:
    """Releases the place, if it is the client's, and cancels the reservation: at our `end`, or at our death.

    It is in a session of its own, so that who ends our process group leaves it alone.
    """

    def __init__(self, client: Client, token: str) -> None:
        reading: list[int] = []

        def pipe() -> int:
            theirs, ours = os.pipe()
            reading.append(theirs)
            return ours

        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._pipe = Unshared(pipe)
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "sh", client.identity, token, *client.words()],
                stdin=reading[0],
                stdout=self._said,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=client.environment,
                start_new_session=True,
            )
        finally:
            os.close(reading[0])

    def end(self) -> Ended:
        """Give the place back now, and say how that went. A child that was forked has nothing to give."""
        if self._pipe.closed:
            return Ended("labgrid-client", 0, "")
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it, and its exit code says so
            os.write(self._pipe.fileno(), b"done\n")
        self._pipe.close()
        with self._said:
            try:
                code = self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                return Ended("labgrid-client", 1, f"It has not ended within {_PATIENCE_S:g} s.")
            self._said.seek(0)
            return Ended("labgrid-client", code, self._said.read().decode(errors="replace"))
