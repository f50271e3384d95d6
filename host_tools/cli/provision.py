"""`limpet provision`."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from host_tools.cli.app import AsJson, app, clean_up_when_ended, remark, show_json
from host_tools.cli.authority import CA, CaFolder, PassphraseFd, PassphraseKeyring, unlock
from host_tools.cli.ports import Every, Ports, chosen
from host_tools.errors import DONE, UsageError

if TYPE_CHECKING:
    from host_tools.devices.port import Port


@app.command()
def provision(
    node: Annotated[
        Path, typer.Option("--node", help="The node file: what the boards are, and their settings.")
    ],
    port: Ports = None,
    every: Every = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and provision whatever is plugged in next, until Ctrl-C.")
    ] = False,
    node_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The node's id, for one board.")
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option("--ids", metavar="PATTERN", help="A pattern for the ids, such as 'line3-{n:03}'."),
    ] = None,
    replace: Annotated[
        str | None,
        typer.Option("--replace", metavar="ID", help="The node whose board is broken: this one is it now."),
    ] = None,
    ca: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    fleet: Annotated[Path, typer.Option("--fleet", metavar="FILE", help="The fleet record.")] = Path(
        "fleet.db"
    ),
    broker: Annotated[
        str | None,
        typer.Option(metavar="HOST[:PORT]", help="How this machine reaches the node file's broker."),
    ] = None,
    key: Annotated[
        Literal["node", "host"], typer.Option(help="Where the private key is made: on the node, or here.")
    ] = "node",
    image_dir: Annotated[
        Path | None,
        typer.Option("--image-dir", metavar="DIR", help="With --key host: write images, and touch no board."),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", help="With --image-dir: how many images; without, one.", min=1, max=10000),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Labels of these nodes: a .csv or .html file, or a folder of SVG."),
    ] = None,
    micropython: Annotated[
        Path | None, typer.Option(help="MicroPython's image as a file, instead of fetching it.")
    ] = None,
    any_micropython: Annotated[
        bool, typer.Option("--any-micropython", help="Take that file although it is not the pinned one.")
    ] = False,
    baud: Annotated[
        int, typer.Option(help="The speed of flashing to begin with; slower ones follow.", min=9600)
    ] = 921600,
    as_json: AsJson = False,
) -> None:
    """Make nodes of boards: firmware, key, certificate, settings, and the proof at the broker."""
    from host_tools.provisioning.naming import Naming

    ports: list[str] = []
    if image_dir is not None:
        if key != "host" or port or every or watch or node_id or replace or labels:
            raise UsageError("--image-dir goes with --key host, --ids and --count: it touches no board.")
    elif count is not None:
        raise UsageError("--count says how many images --image-dir writes: leave it out for boards.")
    elif watch:
        if every or node_id or replace:
            raise UsageError(
                "--watch takes whatever comes, with ids by --ids: leave --all, --id and --replace out."
            )
    else:
        ports = chosen(port, every)
    naming = Naming.checked(node_id, ids, replace, len(ports))

    from host_tools.provisioning.run import crews

    with contextlib.ExitStack() as stack:
        started = stack.enter_context(crews(ports))  # they load while the rest does

        from host_tools.ca import CertificateAuthority
        from host_tools.cli.download import showing_progress
        from host_tools.flashing.job import bauds_from
        from host_tools.fleet import Fleet
        from host_tools.provisioning import told
        from host_tools.provisioning.factory import Made, make_images
        from host_tools.provisioning.labelled import label
        from host_tools.provisioning.order import prepared
        from host_tools.provisioning.outcome import Outcome
        from host_tools.provisioning.run import line
        from host_tools.provisioning.run import provision as provision_all
        from host_tools.provisioning.screen import colour_of, shown
        from host_tools.provisioning.watch import Watch

        clean_up_when_ended()
        authority = stack.enter_context(
            CertificateAuthority.open(ca, unlock(ca, passphrase_fd, passphrase_keyring))
        )
        with showing_progress() as progress:
            order, warnings = prepared(
                node,
                naming,
                key=key,
                bauds=bauds_from(baud),
                broker=broker,
                micropython=micropython,
                any_micropython=any_micropython,
                progress=progress,
            )
        for warning in warnings:
            remark(warning)
        record = stack.enter_context(Fleet(fleet))

        if image_dir is not None:
            images: list[Made] = []

            def written(made: Made) -> None:
                images.append(made)
                if not as_json:
                    typer.echo(told.told_of_image(made))

            make_images(order, authority, record, image_dir, count or 1, written)
            if as_json:
                show_json({"exit_code": DONE, "images": [told.image_values(each) for each in images]})
            return

        outcomes: list[Outcome] = []
        with shown(ports, remark) as show, line(order, authority, record, show) as made:
            if not watch:
                outcomes = provision_all(made, started)
            else:

                def ended(outcome: Outcome) -> None:
                    outcomes.append(outcome)
                    text = json.dumps(outcome.values()) if as_json else told.told(outcome)
                    show.say(text, colour_of(outcome))
                    if labels is not None:
                        label(labels, outcomes, record)

                with contextlib.suppress(KeyboardInterrupt):
                    Watch(made, _listed(port), ended).run()
        if watch:
            typer.echo(json.dumps(told.summary(outcomes)) if as_json else told.told_summary(outcomes))
            raise typer.Exit(told.exit_code(told.latest(outcomes)))
        if labels is not None:
            label(labels, outcomes, record)
    for each in outcomes:
        if each.error:
            remark(told.told(each))
        elif not as_json:
            typer.echo(told.told(each))
    if as_json:
        show_json(told.as_json(outcomes))
    raise typer.Exit(told.exit_code(outcomes))


def _listed(names: list[str] | None) -> "Callable[[], list[Port]]":
    """All ports, or those that were named."""
    from host_tools.devices.port import describe, ports

    def listed() -> "list[Port]":
        there = ports()
        return [describe(name, there) for name in dict.fromkeys(names)] if names else there

    return listed
