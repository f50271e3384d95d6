"""For all tests: Ctrl-C works, however the run was started, and what Python has compiled is kept."""

import os
import signal
import sys

# A run in the background of a script inherits an ignored SIGINT, and so would the commands that
# tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Container images like to set this. Each of many hundred commands would compile all of the tools anew,
# and each of our processes the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
