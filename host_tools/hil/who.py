"""Who we are to others that share a bench."""

import getpass
import os


def user() -> str:
    """The user's name; the number where there is no name for it, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
