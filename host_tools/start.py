"""Where the `limpet` command begins, before the modules that it needs are loaded."""

import gc
import signal
from typing import NoReturn

_OBJECTS = 100_000
"""More than loading makes; what a command makes in circles is still found."""


def main() -> NoReturn:
    """The entry point."""
    # An exception that a signal raises can be lost while modules load. Nothing needs an end yet: die at once.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Modules are many objects and no garbage; a tenth of the time to load them would go into looking for it.
    gc.set_threshold(_OBJECTS)
    from host_tools.cli import run

    run()
