"""Runs a program and ends it when this process' standard input closes.

A starter that holds the other end of that pipe takes the program with it however it dies, SIGKILL included,
on Linux as on macOS. SIGUSR1 is for the program: it gets a SIGHUP, on which servers read their files again.
Run as a script with the program and its arguments; the standard library is enough.
"""

import select
import signal
import subprocess
import sys

_PATIENCE = 5.0  # seconds that the program has to end by itself


def main(command: list[str]) -> int:
    """Run `command` until it ends, standard input closes or a signal asks; return its exit code."""
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr)
        return 127
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: child.terminate())
    signal.signal(signal.SIGUSR1, lambda *_: child.send_signal(signal.SIGHUP))
    while child.poll() is None:
        if select.select([sys.stdin], [], [], 0.1)[0]:
            child.terminate()
            break
    try:
        return child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
