"""`limpet broker init`, `check` and `run`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from host_tools.cli.app import AsJson, clean_up_when_ended, group, remark, show_json
from host_tools.cli.authority import CA, CaFolder, PassphraseFd, PassphraseKeyring, unlock
from host_tools.errors import FAILED

broker = group("broker", "Brokers: make Mosquitto's configuration, check it, and run it.")

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The broker's folder.")]
_MaybeCa = Annotated[
    Path | None, typer.Option("--ca", metavar="DIR", help="The folder of the authority, or a copy of it.")
]


@broker.command()
def init(
    folder: _Folder,
    ca: CaFolder = CA,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="HOST", help="A name or IP address that nodes call the broker by."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="A", help="The address to listen on; without it all of them.")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="The TCP port; 8883 at first.")] = None,
    prefix: Annotated[str | None, typer.Option(help="What topics begin with; 'limpet' at first.")] = None,
    nodes: Annotated[
        int | None, typer.Option(metavar="N", help="How many nodes it is for; 100 at first.")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="Run by root: the account that Mosquitto becomes; 'mosquitto' at first."),
    ] = None,
    console: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A console that may read everything; 'console' at first."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make the folder anew, with a new certificate; its store stays.")
    ] = False,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Make a folder with Mosquitto's configuration, access rules, certificate, key and CRL."""
    from host_tools.broker import birth

    clean_up_when_ended()
    wanted = birth.Wanted(tuple(name or ()), address, port, prefix, nodes, user, tuple(console or ()))
    made = birth.init(folder, ca, unlock(ca, passphrase_fd, passphrase_keyring), wanted, again=again)
    if as_json:
        show_json(made)
        return
    typer.echo(
        f"{made['folder']}: a broker for {made['nodes']} nodes, called {', '.join(made['names'])}, port "
        f"{made['port']}; its certificate ends on {made['expires'][:10]}."
    )
    typer.echo(f"Check it with 'limpet broker check {folder}', run it with 'limpet broker run {folder}'.")


@broker.command()
def check(
    folder: _Folder,
    ca: _MaybeCa = None,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Look through a broker's folder, and try Mosquitto on it; with --ca by clients as well."""
    import contextlib
    from dataclasses import asdict

    from host_tools.broker.check import check as findings
    from host_tools.broker.findings import has_failed
    from host_tools.ca.authority import CertificateAuthority

    clean_up_when_ended()
    found = []
    with contextlib.ExitStack() as stack:
        authority = None
        if ca is not None:
            opened = CertificateAuthority.open(ca, unlock(ca, passphrase_fd, passphrase_keyring))
            authority = stack.enter_context(opened)
        for finding in findings(folder, authority):
            found.append(finding)
            if not as_json:
                typer.echo(finding.line())
    if as_json:
        show_json({"good": not has_failed(found), "findings": [asdict(each) for each in found]})
    if has_failed(found):
        raise typer.Exit(FAILED)


@broker.command()
def run(
    folder: _Folder,
    ca: _MaybeCa = None,
    as_json: AsJson = False,
) -> None:
    """Run Mosquitto on a broker's folder, with the authority's newest CRL, until Ctrl-C."""
    import contextlib
    import json

    from host_tools.broker.run import Notice
    from host_tools.broker.run import run as keep

    def tell(notice: Notice) -> None:
        if as_json:
            said: dict[str, Any] = {"event": notice.event, "text": notice.text, **notice.facts}
            typer.echo(json.dumps(said, ensure_ascii=False))
            sys.stdout.flush()
        else:
            remark(f"limpet: {notice.text}")

    clean_up_when_ended()
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        keep(folder, ca, tell=tell, say=remark)
