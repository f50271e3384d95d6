"""The `limpet` command: its words, their help, and how an error ends it. Other modules do the work."""

import io
import signal
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from host_tools import __version__
from host_tools.errors import LimpetError, UsageError

app = typer.Typer(
    name="limpet",
    help="Sensor nodes on ESP32 and MicroPython: run, deploy and check them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Node files: the settings of a node.", no_args_is_help=True)
app.add_typer(config_app, name="config")
spool_app = typer.Typer(help="Spools: the readings that a node keeps in its flash.", no_args_is_help=True)
app.add_typer(spool_app, name="spool")

_notes = Console(stderr=True, highlight=False, soft_wrap=True)


class BrokerChoice(StrEnum):
    """Which broker the demo runs."""

    mosquitto = "mosquitto"
    embedded = "embedded"


def _say(text: str) -> None:
    _notes.print(text, markup=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"limpet {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    readings: Annotated[
        int | None, typer.Option("--readings", "-n", min=1, help="End after so many readings.")
    ] = None,
    broker: Annotated[
        BrokerChoice | None,
        typer.Option(help="Which broker; without it Mosquitto where it is installed, else the embedded one."),
    ] = None,
) -> None:
    """Show a virtual node that publishes recorded weather over mutual TLS."""
    from host_tools.demo.run import run

    _clean_up_when_ended()
    summary = run(readings, broker.value if broker else None, _say)
    if summary.lost or summary.duplicates:
        raise typer.Exit(1)


@app.command()
def virtual(
    flash: Annotated[
        Path | None, typer.Option(help="Its flash file, which it keeps; without it a new one for this time.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Make the file of --flash first, with the firmware alone.")
    ] = False,
    board: Annotated[str, typer.Option(help="The board to be.")] = "virtual",
    log: Annotated[
        bool, typer.Option("--log", help="Show what the board prints on its serial port.")
    ] = False,
) -> None:
    """Run a virtual board, print its serial port, and stay until Ctrl-C."""
    if new and flash is None:
        raise UsageError("--new makes the file of --flash: name it, as in --flash board.bin --new.")
    from host_tools.virtual.run import run

    _clean_up_when_ended()
    run(flash, board, new=new, log=sys.stdout.buffer if log else None, say=typer.echo, remark=_say)


@config_app.command("check")
def config_check(file: Annotated[Path, typer.Argument(help="The node file (TOML).")]) -> None:
    """Check a node file, and say all that is wrong with it."""
    from host_tools import settings

    checked = settings.check(file)
    for warning in checked.warnings:
        _say(warning)
    sensors = len(checked.node_file.sensors)
    typer.echo(f"{file}: good, {sensors} sensor{'s' if sensors > 1 else ''} on board '{checked.board.name}'")


@spool_app.command("dump")
def spool_dump(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|PORT",
            help="A flash image, an image of the partition 'spool', or a board's serial port.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Show it as JSON.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List all readings as well.")] = False,
) -> None:
    """Show what a spool holds. A board on a port stops for that, and restarts."""
    import json

    from host_tools.spool.dump import Dump
    from host_tools.spool.source import read

    _clean_up_when_ended()
    dump = Dump(read(source, _say))
    if as_json:
        typer.echo(json.dumps(dump.as_json(everything), indent=2, ensure_ascii=False))
    else:
        for line in dump.text(everything):
            typer.echo(line)


@app.command()
def deploy(
    port: Annotated[str, typer.Option("--port", "-p", help="The board's serial port, or any pyserial URL.")],
    node: Annotated[
        Path | None, typer.Option("--node", help="The node file; without it the settings stay as they are.")
    ] = None,
) -> None:
    """Put the firmware and a node's settings on a board: only what changed, nothing stale left behind."""
    from host_tools.deploy import deploy as put

    _clean_up_when_ended()
    put(port, node, typer.echo)


@app.command()
def doctor() -> None:
    """Say what is missing on this machine, and the command that mends it."""
    from host_tools import doctor as checks

    if not checks.report(typer.echo):
        raise typer.Exit(1)


def main() -> NoReturn:
    """Run the command; an error of the user's is one sentence on standard error and the exit code."""
    # An exception that a signal raises can be lost while modules load. Nothing needs an end yet: die at once.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ° must not end the show
    try:
        app()
    except LimpetError as e:
        _say(str(e) if e.names_its_place else f"limpet: {e}")
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as e:  # a disk that is full, a terminal that is gone: what no module below could know
        _say(f"limpet: {e.filename or 'input or output'}: {e.strerror}; mend that and try again.")
        sys.exit(1)
    sys.exit(0)


def _clean_up_when_ended() -> None:
    """From now on a signal ends the command by an exception. Call it when all modules are loaded."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in a script's background
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that everything that was started is ended; a second signal must not cut that short.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
