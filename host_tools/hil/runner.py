"""The process in which `limpet hil` runs pytest: `python -m host_tools.hil.runner` and pytest's own words.

It ends with its parent, whatever ends that: its standard input is the parent's to hold open. So no rig stays
taken by a run that nobody waits for any more.
"""

import os
import signal
import sys
import threading

import pytest


def main() -> int:
    """Run pytest; its exit code."""
    # Whoever was started in the background of a script ignores it, and could only be killed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A descriptor of our own: pytest puts another file in the place of standard input.
    threading.Thread(target=_end_with_parent, args=(os.dup(0),), daemon=True).start()
    return int(pytest.main(sys.argv[1:]))


def _end_with_parent(its_end: int) -> None:
    while os.read(its_end, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    raise SystemExit(main())
