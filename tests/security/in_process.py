"""The `limpet` command run in this process, as its user would see it end: a hundred times cheaper."""

import contextlib
import functools
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import typer.main

from host_tools import cli

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_command = functools.cache(typer.main.get_command)
"""The tree of commands is made once, instead of for each run."""


@dataclass(frozen=True)
class Ended:
    """How a command ended. `traceback` is what it would have shown of its insides."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    traceback: str = ""


def limpet(*words: str | Path, passphrase: str | None = None) -> Ended:
    """Run the command to its end; with `passphrase` it gets one by a file descriptor."""
    said = [str(word) for word in words]
    out, err = io.StringIO(), io.StringIO()
    code, trace = 0, ""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    with contextlib.ExitStack() as stack:
        if passphrase is not None:
            reading, writing = os.pipe()
            stack.callback(os.close, reading)
            os.write(writing, passphrase.encode() + b"\n")
            os.close(writing)
            said += ["--passphrase-fd", str(reading)]
        stack.enter_context(mock.patch.object(sys, "argv", ["limpet", *said]))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(mock.patch.object(typer.main, "get_command", _command))
        try:
            cli.run()
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
        except BaseException:
            trace = traceback.format_exc()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Ended(tuple(said), code, out.getvalue(), err.getvalue(), trace)


def sentences(err: str) -> Sequence[str]:
    """Of what a command said on standard error, the lines that say why it could not be done."""
    return [line for line in err.splitlines() if line.startswith("limpet: ")]
