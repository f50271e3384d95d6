"""The one error that a user sees: a sentence, and the exit code that goes with it."""


class LimpetError(Exception):
    """Something the user can mend.

    The text is one sentence: what was wrong, where, and what to do. The command line prints it
    and ends with `exit_code`; no traceback is shown.
    """

    exit_code = 1
    names_its_place = False
    """The text begins with `file:line:`, as editors want it, so nothing is put in front."""


class UsageError(LimpetError):
    """The command was called with words that cannot be carried out (exit code 2)."""

    exit_code = 2
