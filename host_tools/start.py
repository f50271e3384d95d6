"""Where the `limpet` command begins, before the modules that it needs are loaded."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """The entry point."""
    # An exception that a signal raises can be lost while modules load. Nothing needs an end yet: die at once.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from host_tools.cli import run

    run()
