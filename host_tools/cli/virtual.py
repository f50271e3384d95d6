"""`limpet virtual` and `limpet virtual fault`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from host_tools.cli.app import AsJson, app, clean_up_when_ended, remark, show_json
from host_tools.errors import UsageError

_MOST_BOARDS = 100
_MOST_PORTS = 65535

commands = typer.Typer(
    help="Run virtual boards, print their serial ports, and stay until Ctrl-C.", invoke_without_command=True
)
app.add_typer(commands, name="virtual")


@commands.callback()
def virtual(
    context: typer.Context,
    count: Annotated[int, typer.Option(min=1, max=_MOST_BOARDS, help="How many boards.")] = 1,
    board: Annotated[
        str | None, typer.Option(help="The board to be; without it as last time, or 'virtual'.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="The folder where they keep their flash; else it is gone afterwards.")
    ] = None,
    blank: Annotated[
        bool, typer.Option("--blank", help="New boards have nothing in their flash, not the firmware.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST_PORTS, help="TCP port of the first board; the next one has the next."),
    ] = None,
    ntp: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST_PORTS, help="Be a time server too, on this UDP port of this machine."),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Show what the boards print.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run virtual boards, print their serial ports, and stay until Ctrl-C."""
    if context.invoked_subcommand:
        return
    if log and as_json:
        raise UsageError("--log shows text and --json is for programs: choose one of them.")
    if port and port + count - 1 > _MOST_PORTS:
        raise UsageError(f"{count} boards from port {port} on need ports above {_MOST_PORTS}: begin lower.")
    from host_tools.virtual.run import Running, run

    def show(boards: list[Running]) -> None:
        if as_json:
            show_json({"boards": [{**asdict(each), "folder": str(each.folder)} for each in boards]})
        else:
            for each in boards:
                typer.echo(f"{each.url}  {each.mac}  {each.tty}  {each.folder}")
        sys.stdout.flush()

    clean_up_when_ended()
    run(
        state,
        board,
        count=count,
        blank=blank,
        first_port=port,
        ntp_port=ntp,
        log=sys.stdout.buffer if log else None,
        show=show,
        remark=remark,
    )


@commands.command()
def fault(
    where: Annotated[Path, typer.Argument(help="A board's folder, or the folder of all of them.")],
    faults: Annotated[
        list[str] | None, typer.Argument(help="NAME=VALUE …, or none; without it they are shown.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set faults of boards that run, or show them: docs/virtual-board.md has their names."""
    from host_tools.virtual import control
    from host_tools.virtual.kept import control_sockets

    said = {
        str(socket.parent): control.ask(socket, faults or [])
        for socket in control_sockets(where, control.SOCKET)
    }
    if as_json:
        show_json({"boards": said})
    else:
        for folder, state in said.items():
            typer.echo(f"{folder}: " + " ".join(f"{name}={_word(value)}" for name, value in state.items()))


def _word(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value).lower()
