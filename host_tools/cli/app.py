"""The `limpet` command's frame: its help, how its words reach the user, how an error or a signal ends it."""

import io
import json
import signal
import sys
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

import host_tools
from host_tools.errors import FAILED, LimpetError

app = typer.Typer(
    name="limpet",
    help="Sensor nodes on ESP32 and MicroPython: run, flash, deploy and check them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Say it as one JSON object.")]
"""The option that every command takes which has something to tell."""

_notes = Console(stderr=True, highlight=False, soft_wrap=True)


def remark(text: str) -> None:
    """Say something beside the result, on standard error."""
    _notes.print(text, markup=False)


def show_json(value: Any) -> None:
    """Print the result of a command that was called with --json."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def group(name: str, about: str) -> typer.Typer:
    """A command of commands, such as `limpet config check`."""
    made = typer.Typer(help=about, no_args_is_help=True)
    app.add_typer(made, name=name)
    return made


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"limpet {host_tools.version()}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def run() -> NoReturn:
    """Run the command; an error of the user's is one sentence on standard error and the exit code.

    With --json the sentence is an object on standard output as well.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ° must not end the show
    try:
        app()
    except LimpetError as e:
        _end_if_signalled()
        _fail(str(e) if e.names_its_place else f"limpet: {e}", str(e), e.exit_code)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as e:  # a disk that is full, a terminal that is gone: what no module below could know
        _end_if_signalled()
        text = f"{e.filename or 'input or output'}: {e.strerror}; mend that and try again."
        _fail(f"limpet: {text}", text, FAILED)
    sys.exit(0)


def _fail(line: str, text: str, code: int) -> NoReturn:
    remark(line)
    if "--json" in sys.argv:
        # On one line: the command may be one that goes on telling, an object a line.
        typer.echo(json.dumps({"error": text, "exit_code": code}, ensure_ascii=False))
    sys.exit(code)


def clean_up_when_ended() -> None:
    """From now on a signal ends the command by an exception. Call it when all modules are loaded."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in a script's background
            signal.signal(number, _end)


_ended_by: list[int] = []
"""The signal that ends the command, once it has come."""


def _end_if_signalled() -> None:
    """Ctrl-C reaches the programs that we have started as well: that these fail then is no news."""
    if _ended_by:
        sys.exit(128 + _ended_by[0])


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    _ended_by.append(number)
    # As an exception, so that everything that was started is ended; a second signal must not cut that short.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
