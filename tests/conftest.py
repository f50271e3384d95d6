"""For all tests: Ctrl-C works, however the run was started."""

import signal

# A run in the background of a script inherits an ignored SIGINT, and so would the commands that
# tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
