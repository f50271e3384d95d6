"""Why a board cannot take the firmware."""

from host_tools.errors import LimpetError


class DeployError(LimpetError):
    """The board cannot take the firmware."""
