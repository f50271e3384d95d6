"""The process that flashes one board: `python -m host_tools.flashing.worker`, started by `run` beside it.

esptool keeps state for a whole process, and one that is stuck must be killable. Standard input has the job,
then an answer to each report `found`; standard output has reports, a JSON object a line. When standard input
ends, the parent is gone, and so is this process.
"""

import dataclasses
import json
import mmap
import os
import queue
import sys
import threading
from typing import Any

from host_tools.errors import LimpetError
from host_tools.flashing.board import Flashing
from host_tools.flashing.guards import Found
from host_tools.flashing.job import Consent, Job


def main() -> None:
    """Do one job."""
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    job = Job.load(lines.get())

    def may(found: Found) -> Consent | None:
        _report("found", **dataclasses.asdict(found))
        return Consent.load(lines.get())

    image = memoryview(mmap.mmap(job.image, 0, prot=mmap.PROT_READ))
    try:
        Flashing(job, image, _report, may).run()
    except LimpetError as error:
        _report("failed", text=str(error), exit_code=error.exit_code)
    else:
        _report("done")


def _listen(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(1)


def _report(kind: str, **what: Any) -> None:
    print(json.dumps({"report": kind} | what), flush=True)


if __name__ == "__main__":
    main()
