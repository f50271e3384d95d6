"""The errors that a user sees: a sentence, and the exit code that goes with it (docs/commands.md)."""

DONE, FAILED, USAGE, NO_DEVICE, REFUSED, UNVERIFIED = range(6)
"""Exit codes of every command."""


class LimpetError(Exception):
    """Something the user can mend.

    The text is one sentence: what was wrong, where, and what to do. The command line prints it
    and ends with `exit_code`; no traceback is shown.
    """

    exit_code = FAILED
    names_its_place = False
    """The text begins with `file:line:`, as editors want it, so nothing is put in front."""


class UsageError(LimpetError):
    """The command was called with words that cannot be carried out."""

    exit_code = USAGE


class NoDeviceError(LimpetError):
    """There is no such port, it cannot be opened, or nothing answers there."""

    exit_code = NO_DEVICE


class RefusedError(LimpetError):
    """A guard forbids it; nothing was changed."""

    exit_code = REFUSED


class UnverifiedError(LimpetError):
    """What was written does not read back, or does not run."""

    exit_code = UNVERIFIED
