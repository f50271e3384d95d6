"""`limpet` with a death in it: when each board is at its moment, the process is killed.

`python -m tests.host.provision_killed PLAN WORD…`, where PLAN is JSON: a moment for each port.
"""

import functools
import json
import os
import signal
import sys
import threading

from host_tools.provisioning import run
from host_tools.start import main


class Death:
    """Holds each board at its moment, and kills when all of them are there."""

    def __init__(self, plan: dict[str, str]) -> None:
        self._plan = plan
        self._there = threading.Barrier(len(plan), action=lambda: os.kill(os.getpid(), signal.SIGKILL))

    def __call__(self, port: str, moment: str) -> None:
        if self._plan[port] == moment:
            self._there.wait()


if __name__ == "__main__":
    run.line = functools.partial(run.line, moment=Death(json.loads(sys.argv[1])))
    sys.argv[:2] = ["limpet"]
    main()
