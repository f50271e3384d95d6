"""The folder of a project's broker: which file is what, and how it is made."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from host_tools.broker import account, doorkeeper
from host_tools.broker.account import Account
from host_tools.broker.acl import Access, mosquitto_acl
from host_tools.broker.config import check_address
from host_tools.broker.limits import limits_for
from host_tools.errors import LimpetError, RefusedError
from host_tools.pki import files
from host_tools.pki.credential import Credential, key_pem, pem
from host_tools.pki.names import CONSOLE, check_broker_name

PORT = 8883
"""The registered port of MQTT over TLS."""
MOST_NODES = 100_000

# Mosquitto writes all of it each time: a short interval wears out memory cards, a long one loses more in a
# power cut (docs/brokers.md).
_AUTOSAVE_S = 10
_FORGOTTEN_AFTER = "30d"


@dataclass(frozen=True)
class Settings:
    """What was asked for when the folder was made; everything else follows from it."""

    names: tuple[str, ...]
    """Host names and IP addresses that the nodes call the broker by."""
    ca: str
    """The authority's folder."""
    address: str | None = None
    """The address to listen on; None for all."""
    port: int = PORT
    prefix: str = "limpet"
    nodes: int = 100
    user: str | None = None
    """The account that Mosquitto becomes where root starts it; None where the folder is not root's."""
    consoles: tuple[str, ...] = (CONSOLE,)
    """The names in the certificates of the consoles that may read everything."""

    def check_types(self) -> None:
        """Raise TypeError if something is not of its type, ValueError if there is no name."""
        texts = (
            *self.names,
            *self.consoles,
            self.ca,
            self.prefix,
            *(each for each in (self.address, self.user) if each is not None),
        )
        if not all(isinstance(each, str) for each in texts):
            raise TypeError
        if not all(type(each) is int for each in (self.port, self.nodes)):
            raise TypeError
        if not self.names:
            raise ValueError

    def check(self) -> None:
        """Raise LimpetError if a name, the address, the port, the prefix or the number cannot be."""
        for name in self.names:
            check_broker_name(name)
        if self.address is not None:
            check_address(self.address)
        if not 1 <= self.port <= 65535:
            raise LimpetError(f"The port {self.port} is not valid: use 1 to 65535.")
        if not 1 <= self.nodes <= MOST_NODES:
            raise LimpetError(f"{self.nodes} is no number of nodes for one broker: use 1 to {MOST_NODES}.")
        Access(self.prefix, self.consoles)


class BrokerFolder:
    """The paths in a broker's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.settings = self.path / "broker.json"
        self.configuration = self.path / "mosquitto.conf"
        self.acl = self.path / "acl"
        self.key, self.certificate = self.path / "broker.key", self.path / "broker.crt"
        """The broker's key, and its certificate with what leads from it to a root."""
        self.trusted = self.path / "trusted.crt"
        """The authorities whose clients come in."""
        self.crl = self.path / "crl.pem"
        self.store = self.path / "store"
        """Where sessions and messages outlive a restart."""

    def files(self) -> tuple[Path, ...]:
        """All files that Mosquitto needs."""
        return self.configuration, self.acl, self.key, self.certificate, self.trusted, self.crl

    def load(self) -> Settings:
        """What the folder was made for.

        Raises LimpetError if it is no broker's folder.
        """
        if not files.exists(self.settings):
            raise LimpetError(
                f"{self.path} is no broker's folder, {self.settings.name} is missing: make one with "
                "'limpet broker init'."
            )
        try:
            found = json.loads(files.read(self.settings, "broker's settings"))
            found["names"], found["consoles"] = tuple(found["names"]), tuple(found["consoles"])
            settings = Settings(**found)
            settings.check_types()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise LimpetError(
                f"{self.settings} is not as 'limpet broker init' writes it: make the folder anew elsewhere."
            ) from error
        settings.check()
        return settings

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second broker out.

        Raises RefusedError if there is one.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise LimpetError(f"{self.path} cannot be opened: {error.strerror}.") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise RefusedError(f"Another 'limpet broker run' works in {self.path}: end it first.") from None
        finally:
            os.close(descriptor)

    def put(self, path: Path, data: bytes, owner: Account | None = None) -> None:
        """Write a file of the folder, if it says something else, for us and Mosquitto's account alone."""
        if not files.exists(path) or files.read(path, "file") != data:
            files.write_private(path, data)
        account.lend(path, owner)


def acl_text(settings: Settings) -> str:
    """The ACL file: the rules of `acl`, and the doorkeeper's."""
    return mosquitto_acl(Access(settings.prefix, settings.consoles)) + "\n" + doorkeeper.ACL


def configuration_text(settings: Settings, folder: BrokerFolder) -> str:
    """The text of mosquitto.conf (mosquitto.conf(5))."""
    limits = limits_for(settings.nodes)
    lines = [
        f"# Made by 'limpet broker init' for {settings.nodes} nodes; docs/brokers.md has the reasons.",
        # With 'true', Mosquitto 2.0.12 and later drop what comes for a client while it is away (issue 2618).
        "per_listener_settings false",
        *([f"user {settings.user}"] if settings.user else []),
        "",
        f"listener {settings.port}" + (f" {settings.address}" if settings.address else ""),
        f"cafile {folder.trusted}",
        f"certfile {folder.certificate}",
        f"keyfile {folder.key}",
        f"crlfile {folder.crl}",
        "# The lowest version that is taken.",
        "tls_version tlsv1.2",
        "require_certificate true",
        "# A client is who its certificate says, whatever its CONNECT packet claims.",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        f"max_connections {limits.max_connections}",
        "max_qos 1",
        "max_topic_alias 0",
        "",
        "allow_anonymous false",
        f"acl_file {folder.acl}",
        "",
        f"max_packet_size {limits.max_packet_size}",
        f"max_inflight_messages {limits.max_inflight_messages}",
        f"max_inflight_bytes {limits.max_inflight_bytes}",
        f"max_queued_messages {limits.max_queued_messages}",
        f"max_queued_bytes {limits.max_queued_bytes}",
        f"persistent_client_expiration {_FORGOTTEN_AFTER}",
        "",
        "persistence true",
        f"persistence_location {folder.store}",
        f"autosave_interval {_AUTOSAVE_S}",
        "",
        "set_tcp_nodelay true",
        "# Nothing below $SYS.",
        "sys_interval 0",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
    ]
    return "\n".join(lines) + "\n"


def check_place(path: Path, settings: Settings) -> Account | None:
    """The account that Mosquitto becomes, if root is to start it.

    Raises LimpetError if that account cannot reach the folder, or the folder's name cannot stand in a
    configuration.
    """
    # A configuration file knows no quotes: a line break in a path would begin another setting.
    if not str(path.resolve()).isprintable():
        raise LimpetError(
            f"The folder {str(path)!r} has a line break or the like in its name: choose another."
        )
    if settings.user is None:
        return None
    owner = account.find(settings.user)
    if closed := account.closed_folder(owner, path):
        raise LimpetError(
            f"The account {owner.name}, which Mosquitto runs as, cannot enter {closed}: choose a folder such "
            "as /var/lib/limpet/broker, or run this as another user than root."
        )
    return owner


def make(path: Path, settings: Settings, credential: Credential, trusted: bytes, crl: bytes) -> BrokerFolder:
    """Make the folder with everything in it, or make it anew; what is in its `store` stays.

    Raises LimpetError if it cannot be written.
    """
    owner = check_place(path, settings)
    files.make_private_folder(path)
    folder = BrokerFolder(path)
    try:
        folder.path.chmod(0o700)
        account.lend(folder.path, owner)
        folder.store.mkdir(exist_ok=True)
        account.give(folder.store, owner)
    except OSError as error:
        raise LimpetError(f"The folder {path} cannot be given its rights: {error.strerror}.") from error
    for file, data in (
        (folder.key, key_pem(credential.key)),
        (folder.certificate, pem(credential.certificate, *credential.chain)),
        (folder.trusted, trusted),
        (folder.crl, crl),
        (folder.acl, acl_text(settings).encode()),
        (folder.configuration, configuration_text(settings, folder).encode()),
        # Last: a folder without it is not ready.
        (folder.settings, (json.dumps(asdict(settings), indent=2) + "\n").encode()),
    ):
        folder.put(file, data, owner)
    return folder
