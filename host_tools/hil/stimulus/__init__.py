"""What a node's sensors see: set, ramped, replayed or only known, by whatever the rig has for it."""

from host_tools.hil.stimulus.control import Stimulus
from host_tools.hil.stimulus.make import make_stimulus
from host_tools.hil.stimulus.names import resolve

__all__ = ["Stimulus", "make_stimulus", "resolve"]
