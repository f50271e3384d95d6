"""`limpet fleet`."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from host_tools.cli.app import AsJson, clean_up_when_ended, group, remark, show_json
from host_tools.cli.authority import CA, CaFolder, PassphraseFd, PassphraseKeyring, opened
from host_tools.cli.operator import FLEET, NODE, Broker, FleetFile, NodeFile, at_broker
from host_tools.errors import UsageError

if TYPE_CHECKING:
    from host_tools.fleet import Node

fleet = group("fleet", "The fleet record: which board is which node, by which image and certificate.")

Within = Annotated[
    str, typer.Option("--expires-within", metavar="TIME", help="Which certificates stand out: 36h, 60d, 8w.")
]


class Form(StrEnum):
    """What labels are made as."""

    SVG = "svg"
    PNG = "png"
    SHEET = "sheet"
    CSV = "csv"


@fleet.command("list")
def list_nodes(fleet: FleetFile = FLEET, expires_within: Within = "60d", as_json: AsJson = False) -> None:
    """List the nodes: what was provisioned, when, and when its certificate expires."""
    from host_tools.cli.table import show_table
    from host_tools.fleet import Fleet, expiry, export, show

    within, now = expiry.span(expires_within), datetime.now(UTC)
    with Fleet(fleet, create=False) as record:
        nodes = record.nodes()
    if as_json:
        told = [export.values(node) | {"ending": _ending(node, within, now)} for node in nodes]
        show_json({"nodes": told})
        return
    show_table(show.table(nodes, within, now))
    if warning := show.standing_out(nodes, within, now):
        remark(warning)


@fleet.command("show")
def show_node(
    node_id: Annotated[str, typer.Argument(metavar="ID", help="The node.")],
    fleet: FleetFile = FLEET,
    expires_within: Within = "60d",
    as_json: AsJson = False,
) -> None:
    """Show one node: the chain from its USB location to its first publish, and its journal."""
    from host_tools.fleet import Fleet, expiry, export, show

    within, now = expiry.span(expires_within), datetime.now(UTC)
    with Fleet(fleet, create=False) as record:
        node, journal = record.known(node_id), record.journal_of(node_id)
    if as_json:
        told = export.values(node) | {"ending": _ending(node, within, now)}
        show_json(told | {"journal": [export.entry(line) for line in journal]})
        return
    typer.echo("\n".join(show.lines(node, journal, within, now)))


@fleet.command("export")
def export_nodes(
    fleet: FleetFile = FLEET,
    as_csv: Annotated[bool, typer.Option("--csv", help="Say it as CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the whole record for other programs, to standard output."""
    if as_csv == as_json:
        raise UsageError("Choose one of the two: --csv or --json.")
    from host_tools.fleet import Fleet, export

    with Fleet(fleet, create=False) as record:
        nodes = record.nodes()
        told = [
            export.values(node)
            | {"journal": [export.entry(line) for line in record.journal_of(node.node_id)]}
            for node in nodes
        ]
    if as_json:
        show_json({"nodes": told})
    else:
        typer.echo(export.as_csv(nodes), nl=False)


@fleet.command("refresh")
def refresh_nodes(
    fleet: FleetFile = FLEET,
    node: NodeFile = NODE,
    broker: Broker = None,
    ca: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    patience: Annotated[
        float, typer.Option("--patience", metavar="SECONDS", help="How long a node may take.", min=1)
    ] = 20.0,
    as_json: AsJson = False,
) -> None:
    """Ask all nodes in service how they are, and note in the record who answers."""
    from host_tools.fleet import Fleet, asked
    from host_tools.fleet.refresh import refresh
    from host_tools.telemetry.reach import places

    clean_up_when_ended()
    where = places(node, broker)
    with (
        Fleet(fleet, create=False) as record,
        opened(ca, passphrase_fd, passphrase_keyring) as authority,
        at_broker(authority, where) as operator,
    ):
        answers, strangers = refresh(record, operator, patience)
    code = asked.exit_code(answers)
    if as_json:
        show_json(asked.as_json(answers, strangers, code))
    else:
        for line in asked.lines(answers):
            typer.echo(line)
        for line in asked.odd(answers, strangers):
            remark(line)
    raise typer.Exit(code)


@fleet.command("labels")
def make_labels(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The nodes; without: all.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="A folder for svg and png, a file for the others."
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--as", help="A file a node, or all in one.")] = Form.SHEET,
    fleet: FleetFile = FLEET,
    as_json: AsJson = False,
) -> None:
    """Make labels for nodes: QR codes, or CSV for a label printer. No secrets are on them."""
    from host_tools.fleet import IN_SERVICE, Fleet
    from host_tools.fleet.labelling import write

    with Fleet(fleet, create=False) as record:
        nodes = [record.known(each) for each in dict.fromkeys(ids)] if ids else record.nodes()
    written = write([node for node in nodes if ids or node.state == IN_SERVICE], form.value, output)
    if as_json:
        show_json({"labels": [str(path) for path in written]})
    else:
        for path in written:
            typer.echo(str(path))


def _ending(node: "Node", within: timedelta, now: datetime) -> str | None:
    from host_tools.fleet.expiry import word

    return word(node.expires, within, now) or None if node.expires and not node.is_retired else None
