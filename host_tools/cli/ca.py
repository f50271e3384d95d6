"""`limpet ca`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from host_tools.cli.app import AsJson, clean_up_when_ended, group, remark, show_json
from host_tools.cli.authority import CA, CaFolder, PassphraseFd, PassphraseKeyring, opened, unlock

if TYPE_CHECKING:
    from host_tools.ca.backup import Backup
    from host_tools.ca.state import Issued
    from host_tools.pki.credential import Credential

ca = group("ca", "The certificate authority: who is a node, a broker, a console.")
issue = typer.Typer(help="Sign a certificate, and write down that it was.", no_args_is_help=True)
ca.add_typer(issue, name="issue")

BackupFile = Annotated[
    Path, typer.Option("--backup", metavar="FILE", help="Where the backup goes, best on another disk.")
]
RootKey = Annotated[
    str | None, typer.Option("--root-key", metavar="URI", help="A pkcs11: URI: the root's key in a token.")
]
IssuingKey = Annotated[
    str | None,
    typer.Option("--issuing-key", metavar="URI", help="A pkcs11: URI: the issuing key in a token."),
]
Days = Annotated[
    int | None, typer.Option("--days", help="How long it lasts; without it 825 days.", min=1, max=1826)
]
Into = Annotated[
    Path, typer.Option("--into", metavar="DIR", help="The folder for the key and the certificate.")
]


@ca.command("init")
def init(
    backup: BackupFile,
    folder: CaFolder = CA,
    organisation: Annotated[
        str | None, typer.Option("--organisation", metavar="NAME", help="Stands in the authority's names.")
    ] = None,
    root_key: RootKey = None,
    issuing_key: IssuingKey = None,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Make an authority, a root and one that issues, and its first backup."""
    from host_tools.ca import CertificateAuthority, public

    clean_up_when_ended()
    with unlock(folder, passphrase_fd, passphrase_keyring) as source:
        made = CertificateAuthority.init(
            folder,
            source,
            backup,
            organisation=organisation,
            root_uri=root_key,
            issuing_uri=issuing_key,
        )
    seen = public(folder)
    root = seen.state.issued[seen.state.roots[-1]]
    _tell_backup(made, backup)
    if as_json:
        show_json({"folder": str(folder), "root": root.fingerprint, "backup": str(backup)})
    else:
        typer.echo(f"{folder}: made; its root is {root.name}, SHA-256 {root.fingerprint}")


@ca.command("show")
def show(folder: CaFolder = CA, as_json: AsJson = False) -> None:
    """Show an authority; no passphrase is needed."""
    from host_tools.ca import public, told
    from host_tools.pki.profiles import utc_now

    seen = public(folder)
    if as_json:
        show_json(told.authority_as_json(seen, utc_now()))
    else:
        typer.echo("\n".join(told.authority(str(folder), seen, utc_now())))


@ca.command("list")
def list_(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only those of this node, broker or console.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Expired and revoked ones too, and all kinds.")
    ] = False,
    within: Annotated[
        int | None, typer.Option("--expires-within", metavar="DAYS", help="Only what expires so soon.", min=0)
    ] = None,
    folder: CaFolder = CA,
    as_json: AsJson = False,
) -> None:
    """List certificates: live ones, or all that there ever were."""
    from host_tools.ca import public, told
    from host_tools.pki.profiles import utc_now

    state, now = public(folder).state, utc_now()
    found = told.chosen(state, now, every=every, within=within, name=name)
    if as_json:
        show_json({"certificates": [told.certificate_as_json(each, state, now) for each in found]})
    else:
        typer.echo("\n".join(told.listing(found, state, now)))


@issue.command("node")
def issue_node(
    node_id: Annotated[str, typer.Argument(metavar="NODE", help="The node id.")],
    csr: Annotated[
        Path, typer.Option("--csr", metavar="FILE", help="The node's certificate request, DER or PEM.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The certificate; else it is printed."),
    ] = None,
    days: Days = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Revoke the live certificate that the node has.")
    ] = False,
    folder: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Sign a node's request: its certificate and the authority's, PEM."""
    from host_tools.errors import LimpetError
    from host_tools.pki import files
    from host_tools.pki.credential import pem
    from host_tools.pki.names import check_node_id
    from host_tools.pki.request import check_request

    data = files.read(csr, "certificate request")
    check_node_id(node_id)
    try:
        check_request(data, node_id)
    except LimpetError as error:
        raise LimpetError(f"{csr}: {error}") from None
    clean_up_when_ended()
    with opened(folder, passphrase_fd, passphrase_keyring) as authority:
        made = authority.issue_node(data, node_id, days=days, replace=replace)
        chain = pem(made.certificate, *(authority.state.issued[made.issuer].certificate,))
    if output:
        files.write_private(output, chain)
    if as_json:
        show_json({**_told(made), "certificate": chain.decode()})
    elif output:
        typer.echo(f"{output}: node {node_id}, until {made.expires:%Y-%m-%d}, SHA-256 {made.fingerprint}")
    else:
        typer.echo(chain.decode(), nl=False)


@issue.command("broker")
def issue_broker(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help="Host names and IP addresses by which it is reached.")
    ],
    into: Into,
    days: Days = None,
    folder: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Make a broker's key and certificate: DIR/broker.key and DIR/broker.crt."""
    clean_up_when_ended()
    _free(into, "broker")
    with opened(folder, passphrase_fd, passphrase_keyring) as authority:
        _ready(into)
        made = authority.issue_broker(names, days=days)
    _save(made, into, "broker", as_json)


@issue.command("console")
def issue_console(
    into: Into,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What the console is called.")] = "console",
    days: Days = None,
    folder: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Make a console's key and certificate: DIR/NAME.key and DIR/NAME.crt."""
    from host_tools.pki.names import console_name

    console_name(name)
    clean_up_when_ended()
    _free(into, name)
    with opened(folder, passphrase_fd, passphrase_keyring) as authority:
        _ready(into)
        made = authority.issue_client("console", name, days=days)
    _save(made, into, name, as_json)


@ca.command("revoke")
def revoke(
    what: Annotated[str, typer.Argument(metavar="NODE|SERIAL", help="A node id, or a serial number.")],
    reason: Annotated[
        str, typer.Option("--reason", metavar="WORD", help="Why, as RFC 5280 has it: key-compromise, …")
    ],
    folder: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Revoke a node's certificates, or one by its serial number. Brokers refuse them with the new crl.pem."""
    from host_tools.pki.crl import check_reason

    check_reason(reason)
    clean_up_when_ended()
    with opened(folder, passphrase_fd, passphrase_keyring) as authority:
        gone = authority.revoke(what, reason)
    if as_json:
        show_json({"revoked": [_told(each) for each in gone], "crl": str(folder / "crl.pem")})
        return
    for each in gone:
        typer.echo(f"revoked: {each.kind} {each.name}, {each.serial}")
    if not gone:
        typer.echo(f"{what}: nothing was live")


@ca.command("rotate")
def rotate(
    backup: BackupFile,
    root: Annotated[
        bool, typer.Option("--root", help="A new root as well, trusted beside the old one.")
    ] = False,
    root_key: RootKey = None,
    issuing_key: IssuingKey = None,
    folder: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Make the next issuing authority; what the old one has issued stays valid."""
    from host_tools.ca.keys import in_token
    from host_tools.errors import UsageError

    if root_key and not root:
        raise UsageError("--root-key is for a new root: give --root as well.")
    places = {"issuing": issuing_key, **({"root": root_key} if root else {})}
    for which, place in places.items():
        if place is None and in_token(folder / f"{which}.key"):
            raise UsageError(f"The {which} key is in a token: say by --{which}-key where the next one goes.")
    clean_up_when_ended()
    with opened(folder, passphrase_fd, passphrase_keyring) as authority:
        made = authority.rotate(backup, root=root, root_uri=root_key, issuing_uri=issuing_key)
        issuing = authority.state.issued[authority.state.issuing]
        trusted = [authority.state.issued[serial].name for serial in authority.state.roots]
    _tell_backup(made, backup)
    if as_json:
        show_json({"issuing": _told(issuing), "trusted": trusted, "backup": str(backup)})
        return
    typer.echo(f"issuing now: {issuing.name}, until {issuing.expires:%Y-%m-%d}")
    if root:
        typer.echo(
            f"trusted: {', '.join(trusted)}; next: brokers, then 'limpet rotate --trust' for the nodes"
        )


@ca.command("retire-root")
def retire_root(
    folder: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Trust the old root no more, once no node's certificate is under it."""
    clean_up_when_ended()
    with opened(folder, passphrase_fd, passphrase_keyring) as authority:
        # An operator's ends by itself, within the hour.
        left = [each for each in authority.retire_root() if each.kind != "operator"]
        trusted = [authority.state.issued[serial].name for serial in authority.state.roots]
    if as_json:
        show_json({"trusted": trusted, "left": [_told(each) for each in left]})
        return
    typer.echo(f"trusted: {', '.join(trusted)}")
    for each in left:
        typer.echo(f"under the old root, issue it anew: {each.kind} {each.name}")


@ca.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it goes, best on another disk.")],
    folder: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Write all of the authority to one encrypted file, and read it back."""
    clean_up_when_ended()
    with opened(folder, passphrase_fd, passphrase_keyring) as authority:
        made = authority.backup(file)
    _tell_backup(made, file)
    if as_json:
        show_json({"backup": str(file), "files": made.files, "size": made.size})
    else:
        typer.echo(f"{file}: {made.files} files, {made.size} bytes, read back")


@ca.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    folder: CaFolder = CA,
    passphrase_fd: PassphraseFd = None,
    passphrase_keyring: PassphraseKeyring = False,
    as_json: AsJson = False,
) -> None:
    """Put an authority from a backup into an empty folder."""
    from host_tools.ca import CertificateAuthority, public

    clean_up_when_ended()
    with unlock(folder, passphrase_fd, passphrase_keyring) as source:
        made = CertificateAuthority.restore(file, folder, source)
    lines = public(folder).lines
    at = lines[-2].time if len(lines) > 1 else lines[-1].time
    if as_json:
        show_json({"folder": str(folder), "files": made.files, "until": at.strftime("%Y-%m-%dT%H:%M:%SZ")})
    else:
        typer.echo(f"{folder}: {made.files} files, as of {at:%Y-%m-%d %H:%M:%S} UTC")
    remark(
        "what was issued or revoked after that is not in it: revoke it, or issue it anew, once you know of it"
    )


@ca.command("audit")
def audit(
    known: Annotated[
        str | None,
        typer.Option("--known", metavar="LINE:HASH", help="A line's hash as an earlier audit has shown it."),
    ] = None,
    folder: CaFolder = CA,
    as_json: AsJson = False,
) -> None:
    """Verify the ledger, its seals, the certificates and the CRL, and name the line that was touched."""
    from host_tools.ca import audit as look
    from host_tools.ca.inspection import noted
    from host_tools.ca.told import audit_as_json
    from host_tools.errors import DONE, UNVERIFIED

    found = look(folder, known=noted(known) if known else None)
    error = (
        f"{folder} was touched: {'; '.join(each.text for each in found.findings)}." if found.findings else ""
    )
    code = UNVERIFIED if error else DONE
    if as_json:
        show_json({**({"error": error} if error else {}), "exit_code": code, **audit_as_json(found)})
    elif not error:
        typer.echo(
            f"{folder}: {found.lines} lines, nothing was touched; the last line is {found.lines}:{found.hash}"
        )
    for clause in found.unfinished:
        remark(
            f"{folder}: a command was cut short: {clause}; the next command that opens the authority mends it"
        )
    if error:
        remark(f"limpet: {error}")
    raise typer.Exit(code)


def _free(into: Path, stem: str) -> None:
    from host_tools.errors import RefusedError
    from host_tools.pki import files

    for name in (f"{stem}.key", f"{stem}.crt"):
        if files.exists(into / name):
            raise RefusedError(f"{into / name} is there already: choose another folder, or move it away.")


def _ready(into: Path) -> None:
    """Before anything is issued: a certificate whose key cannot be kept would be live for nothing."""
    import os

    from host_tools.errors import LimpetError
    from host_tools.pki import files

    files.make_private_folder(into)
    if not os.access(into, os.W_OK | os.X_OK):
        raise LimpetError(f"The folder {into} cannot be written: choose another, or mend its rights.")


def _save(made: "Credential", into: Path, stem: str, as_json: bool) -> None:
    made.save(into, stem)
    end = made.certificate.not_valid_after_utc
    key, certificate = into / f"{stem}.key", into / f"{stem}.crt"
    if as_json:
        show_json(
            {
                "key": str(key),
                "certificate": str(certificate),
                "serial": f"{made.certificate.serial_number:x}",
            }
        )
    else:
        typer.echo(f"{key}, {certificate}: until {end:%Y-%m-%d}")


def _told(each: "Issued") -> dict[str, Any]:
    return {
        "kind": each.kind,
        "name": each.name,
        "serial": each.serial,
        "fingerprint": each.fingerprint,
        "expires": each.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _tell_backup(made: "Backup", file: Path) -> None:
    for name in made.in_token:
        remark(f"{file}: {name} is in a token and not in the backup: back that token up by its own means")
