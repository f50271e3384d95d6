"""What goes wrong with a board in the middle of a test."""

from host_tools.errors import LimpetError


class HilError(LimpetError):
    """The rig does not do what it could do before; the text says what, and what to do."""
