"""`limpet rotate`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from host_tools.cli.app import AsJson, app, clean_up_when_ended, remark, show_json
from host_tools.cli.authority import CA, CaFolder, PassphraseFd, PassphraseKeyring, opened
from host_tools.cli.operator import FLEET, NODE, Broker, FleetFile, NodeFile, at_broker


@app.command()
def rotate(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="The nodes.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All nodes in service.")] = False,
    expiring: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Those whose certificates expire within 36h, 60d, 8w."),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Give them the authority's trusted CAs, and leave them their keys."),
    ] = False,
    fleet: FleetFile = FLEET,
    node: NodeFile = NODE,
    broker: Broker = None,
    ca: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    patience: Annotated[
        float,
        typer.Option("--patience", metavar="SECONDS", help="How long a node may take to come back.", min=1),
    ] = 180.0,
    side_by_side: Annotated[
        int, typer.Option("--side-by-side", metavar="N", help="How many nodes at a time.", min=1, max=64)
    ] = 8,
    as_json: AsJson = False,
) -> None:
    """Give nodes new keys and certificates over MQTT, while they work."""
    from host_tools.fleet import Fleet, expiry
    from host_tools.rotation import run, told
    from host_tools.rotation.choice import choose
    from host_tools.telemetry.reach import places

    clean_up_when_ended()
    within = expiry.span(expiring) if expiring is not None else None
    order = run.Order(trust, patience, side_by_side)
    with Fleet(fleet, create=False) as record:
        chosen = choose(record.nodes(), ids or [], every, within, datetime.now(UTC))
        where = places(node, broker)
        outcomes = []
        if chosen:
            with (
                opened(ca, passphrase_fd, passphrase_keyring) as authority,
                at_broker(authority, where) as operator,
            ):
                outcomes = run.rotate(chosen, order, operator, authority, record, told.Lines(remark))
    code = run.exit_code(outcomes)
    for each in outcomes:
        if each.error:
            remark(f"limpet: {each.error}")
        elif not as_json:
            typer.echo(told.line(each, trust))
    if as_json:
        show_json(told.as_json(outcomes, trust, code))
    elif not chosen:
        remark("No node is to be rotated.")
    raise typer.Exit(code)
