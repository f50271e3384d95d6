"""Command lines as a user types them, and how long they take."""

import subprocess
import sys
import time
from pathlib import Path

from tests.host.shell import environment

_SECONDS = 300  # for one command; many times what it takes


def seconds(tool: str, *words: str | Path) -> float:
    """Run `limpet`, `mpremote` or `esptool` to its good end; how long it took, its start included."""
    command = [str(Path(sys.executable).with_name(tool)), *map(str, words)]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{' '.join(command)} took more than {_SECONDS} s.") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return time.monotonic() - began
