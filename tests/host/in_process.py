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
from tests.host.shell import Done, environment

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_command = functools.cache(typer.main.get_command)
"""The tree of commands is made once, instead of for each run."""


@dataclass(frozen=True)
class Ended(Done):
    """How a command ended. `traceback` is what it would have shown of its insides."""

    words: tuple[str, ...]
    traceback: str = ""


def limpet(
    *words: str | Path, passphrase: str | None = None, cwd: Path | None = None, **changes: str
) -> Ended:
    """Run the command to its end; with `passphrase` it gets one by a file descriptor.

    What a process keeps for its life, such as which MicroPython there is, this one keeps from run to run.
    """
    said = [str(word) for word in words]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
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
        stack.enter_context(mock.patch.dict(os.environ, environment(**changes), clear=True))
        stack.enter_context(contextlib.chdir(cwd or Path.cwd()))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(mock.patch.object(typer.main, "get_command", _command))
        try:
            cli.run()
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
        except BaseException:
            code, trace = 1, traceback.format_exc()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Ended(code, _text(out), _text(err) + trace, tuple(said), trace)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def sentences(err: str) -> Sequence[str]:
    """Of what a command said on standard error, the lines that say why it could not be done."""
    return [line for line in err.splitlines() if line.startswith("limpet: ")]
