"""Mosquitto as the broker: its configuration, its executable, and its start."""

import os
import re
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

from host_tools.broker.acl import mosquitto_acl
from host_tools.broker.config import MAX_PACKET, BrokerConfig, Listener
from host_tools.broker.process import BrokerProcess, PortBusyError, StartError
from host_tools.pki import files

KIND = "mosquitto"

# Debian and macOS put it where a user's PATH does not reach.
_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_OLDEST = (2, 0)
_READY = re.compile(r"mosquitto version \S+ running")
_ATTEMPTS = 5


def find_executable() -> str | None:
    """The path of `mosquitto`, or None where it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_FOLDERS])
    return shutil.which("mosquitto", path=path)


def version(executable: str) -> tuple[int, ...] | None:
    """The version of a Mosquitto executable such as (2, 0, 11), or None if it does not say."""
    try:
        said = subprocess.run([executable, "-h"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"mosquitto version (\d+(?:\.\d+)+)", said.stdout + said.stderr)
    return tuple(map(int, match[1].split("."))) if match else None


def is_usable(version: tuple[int, ...] | None) -> bool:
    """Whether a Mosquitto of this version keeps what the configuration promises."""
    return version is not None and version >= _OLDEST


def configuration(config: BrokerConfig, acl: Path, *, as_root: bool, store: Path | None = None) -> str:
    """The text of mosquitto.conf for `config` (mosquitto.conf(5)); `acl` is where the ACL file stands, and
    `store` the folder that keeps sessions and messages over a restart, if any does."""
    lines = [
        "per_listener_settings false",
        # Root would become a user that cannot read our keys.
        *(["user root"] if as_root else []),
        "",
        *_listener(config, Listener(config.address, config.port, config.certificate, config.key)),
        *(_listener(config, config.side) if config.side else []),
        "allow_anonymous false",
        f"acl_file {acl}",
        "",
        f"max_packet_size {MAX_PACKET}",
        "max_inflight_messages 100",
        "max_queued_messages 10000",
        "",
        *(_persistence(store) if store else ["persistence false"]),
        "set_tcp_nodelay true",
        "sys_interval 0",
        # Standard error is not buffered: a line is there when it is said.
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        *(["log_type debug"] if config.logs_packets else []),
    ]
    return "\n".join(lines) + "\n"


def _listener(config: BrokerConfig, place: Listener) -> list[str]:
    return [
        f"listener {place.port} {place.address}",
        f"cafile {config.ca}",
        f"certfile {place.certificate}",
        f"keyfile {place.key}",
        *([f"crlfile {config.crl}"] if config.crl else []),
        # The lowest version that is taken.
        "tls_version tlsv1.2",
        "require_certificate true",
        "# A client is who its certificate says, whatever its CONNECT packet claims.",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "",
    ]


def _persistence(store: Path) -> list[str]:
    return [
        "persistence true",
        f"persistence_location {store}",
        # With every change: what was acknowledged outlives SIGKILL.
        "autosave_on_changes true",
        "autosave_interval 1",
    ]


def start(
    executable: str, config: BrokerConfig, folder: Path, *, persistent: bool = False
) -> tuple[BrokerProcess, int]:
    """Start Mosquitto with its files in `folder`, and return it with its port once it listens. A `persistent`
    one goes on with the sessions and messages of the one before it in that folder.

    Raises LimpetError if the port is busy or Mosquitto ends for another reason.
    """
    attempts = 1 if config.port else _ATTEMPTS
    while True:
        # Mosquitto cannot pick a port itself. Another process may take ours first: then we pick again.
        port = config.port or free_port(config.address)
        try:
            return _start(
                executable, replace(config, port=port), folder, folder if persistent else None
            ), port
        except StartError as error:
            attempts -= 1
            if "Address already in use" not in error.last_line:
                raise
            if not attempts:
                raise PortBusyError(config.address, port) from error


def _start(executable: str, config: BrokerConfig, folder: Path, store: Path | None) -> BrokerProcess:
    acl, settings = folder / "acl", folder / "mosquitto.conf"
    files.write_private(acl, mosquitto_acl(config.access).encode())
    text = configuration(config, acl, as_root=os.geteuid() == 0, store=store)
    files.write_private(settings, text.encode())
    process = BrokerProcess("Mosquitto", [executable, "-c", str(settings)], folder / "broker.log")
    process.wait_ready(_READY)
    return process


def free_port(address: str) -> int:
    """A TCP port of `address` that nobody listens on at the moment."""
    family = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
