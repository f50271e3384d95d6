"""A board's raw REPL, over any serial port that pyserial opens: mpremote's transport, with deadlines.

mpremote waits without end in places, as for the window of a raw paste or for a babbling port to fall silent.
Here every exchange has a deadline, whatever the other end does; what fails is tried again, each time by
stronger means.
"""

from host_tools.repl.errors import BoardError, ReplError
from host_tools.repl.session import Repl

__all__ = ["BoardError", "Repl", "ReplError"]
