"""`limpet decommission`."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from host_tools.cli.app import AsJson, app, clean_up_when_ended, remark, show_json
from host_tools.cli.authority import CA, CaFolder, PassphraseFd, PassphraseKeyring, opened
from host_tools.cli.operator import FLEET, FleetFile
from host_tools.errors import UsageError

if TYPE_CHECKING:
    from host_tools.decommission.guards import Target


@app.command()
def decommission(
    node_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The node; else the one that the board is.")
    ] = None,
    port: Annotated[
        str | None, typer.Option("--port", "-p", help="Where its board is: a serial port, or pyserial URL.")
    ] = None,
    lost: Annotated[
        bool, typer.Option("--lost", help="The board is gone: revoke its certificates, and write it off.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: for scripts, and only with ID.")] = False,
    dump: Annotated[
        Path | None, typer.Option("--dump", metavar="FILE", help="Keep what was read after erasing.")
    ] = None,
    fleet: FleetFile = FLEET,
    ca: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    baud: Annotated[
        int, typer.Option(help="The speed to begin with; slower ones follow.", min=9600)
    ] = 921600,
    as_json: AsJson = False,
) -> None:
    """Take a node out of service for good: revoke its certificates, erase its flash, prove both."""
    if lost == (port is not None):
        raise UsageError("Name the board by --port, or say --lost when it is gone: one of the two.")
    if node_id is None and (lost or yes):
        raise UsageError(f"{'--lost' if lost else '--yes'} wants the node by name: add its id.")
    if lost and dump:
        raise UsageError("A board that is lost cannot be read: leave --dump out.")
    from host_tools.ca import CertificateAuthority
    from host_tools.decommission import run
    from host_tools.decommission.told import line
    from host_tools.flashing.job import bauds_from
    from host_tools.fleet import Fleet

    clean_up_when_ended()
    show = _Show(yes)
    with contextlib.ExitStack() as stack:

        def authority() -> CertificateAuthority:
            return stack.enter_context(opened(ca, passphrase_fd, passphrase_keyring))

        record = stack.enter_context(Fleet(fleet, create=False))
        if port is None:
            assert node_id is not None
            done = run.write_off(node_id, record, authority, show)
        else:
            done = run.decommission(port, node_id, record, authority, bauds_from(baud), dump, show)
    if as_json:
        show_json(done.values())
    else:
        typer.echo(line(done))


class _Show:
    """Steps and quarters as lines on standard error; the question on the terminal."""

    def __init__(self, yes: bool) -> None:
        self._yes = yes
        self._quarters = 0

    def step(self, name: str) -> None:
        """Something begins."""
        self._quarters = 0
        remark(name)

    def progress(self, done: int, total: int) -> None:
        """It is so far with it."""
        quarter = 4 * done // total
        if self._quarters < quarter < 4:
            self._quarters = quarter
            remark(f"{25 * quarter} %")

    def confirm(self, target: "Target", lost: bool) -> bool:
        """Whether the user has typed the node's id."""
        if self._yes:
            return True
        if not sys.stdin.isatty():
            raise UsageError("There is no terminal to confirm at: add --yes.")
        what = "Its certificates are revoked" if lost else "Its certificates are revoked, its flash is erased"
        remark(f"The node '{target.node_id}', board {target.mac}. {what}. There is no way back.")
        typer.echo("Type its id to go on: ", nl=False, err=True)
        return sys.stdin.readline().strip() == target.node_id
