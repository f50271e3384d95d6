"""A place where boards are provisioned: authority, broker, time, Wi-Fi, a node file and a fleet record."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace as replace_in
from pathlib import Path
from typing import Any, Self

from cryptography import x509

from host_tools import boards
from host_tools.broker import Broker, start_broker
from host_tools.ca import CertificateAuthority, Issued
from host_tools.ca.inspection import public
from host_tools.ca.passphrase import Unlock, from_descriptor
from host_tools.flashing.job import bauds_from
from host_tools.fleet import Fleet
from host_tools.pki.credential import key_pem, pem
from host_tools.pki.profiles import utc_now
from host_tools.provisioning.board import Moment
from host_tools.provisioning.naming import Naming
from host_tools.provisioning.order import Key, Order, prepared
from host_tools.provisioning.outcome import Outcome
from host_tools.provisioning.run import crews, line, provision, quietly
from host_tools.provisioning.screen import Lines
from host_tools.virtual.bench import Bench
from host_tools.virtual.radio import AccessPoint
from host_tools.virtual.time_server import TimeServer
from tests.host.shell import DEADLINE, LIMPET, Done, environment
from tests.host.virtual_rig import MAC, Rig

PASSPHRASE = "four plain words and a number 7"
NETWORK = "factory"
PRODUCTION = 'profile = "production"\n'
NODE_FILE = """\
board = "virtual"
ntp = ["127.0.0.1:{ntp}"]
retry = 1
health = 5

[[wifi]]
ssid = "factory"

[[broker]]
host = "127.0.0.1"
port = {port}
name = "localhost"

[sensors.bme280]
period = "1min"
"""


def ledger(site: "Site") -> list[dict[str, Any]]:
    """The lines of the authority's ledger."""
    return [json.loads(line) for line in (site.ca_folder / "ledger.jsonl").read_text().splitlines()]


def unlock(passphrase: str = PASSPHRASE) -> Unlock:
    """What gives this passphrase, once."""
    read, write = os.pipe()
    os.write(write, passphrase.encode() + b"\n")
    os.close(write)
    gives = from_descriptor(read, "the tests' authority")
    gives()
    os.close(read)
    return gives


class Site:
    """Use as a context manager. `broker` runs from the start; `boards` are those that were put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_folder = folder / "ca"
        self.fleet_file = folder / "fleet.db"
        self.node_file = folder / "node.toml"
        self._pki = folder / "broker"
        self._stack = contextlib.ExitStack()
        self._count = 0
        self._orders: dict[Path, Order] = {}
        CertificateAuthority.init(self.ca_folder, unlock(), folder / "ca.backup")

    def __enter__(self) -> Self:
        self.ca = self._stack.enter_context(CertificateAuthority.open(self.ca_folder, unlock()))
        made = self.ca.issue_broker(["localhost", "127.0.0.1"])
        self._pki.mkdir(mode=0o700)
        authorities = map(x509.load_der_x509_certificate, (*self.ca.chain, *self.ca.trusted))
        (self._pki / "ca.crt").write_bytes(pem(*authorities))
        (self._pki / "broker.crt").write_bytes(pem(made.certificate, *made.chain))
        (self._pki / "broker.key").write_bytes(key_pem(made.key))
        self.broker = self.start_broker()
        self.bench = self._stack.enter_context(Bench())
        time_server = self.bench.run(TimeServer.open())
        self.bench.on_close(time_server.close)
        self.node_file.write_text(NODE_FILE.format(ntp=time_server.port, port=self.broker.port))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_broker(self, port: int = 0) -> Broker:
        return self._stack.enter_context(start_broker(self._pki, port=port, consoles=(), run_folder=None))

    def board(self, flash: bytes | None = None, *, paced: bool = False) -> Rig:
        """One more board, blank unless told otherwise, in reach of the Wi-Fi; `paced` as in virtual_rig."""
        self._count += 1
        kind = boards.load_board("virtual")
        rig = Rig(
            self.bench,
            self.folder / f"{self._count}.bin",
            b"\xff" * kind.flash_size if flash is None else flash,
            kind=kind,
            mac=MAC[:5] + bytes((self._count,)),
            rfc2217=("127.0.0.1", 0),
            paced=paced,
        )
        rig.world.access_points.append(AccessPoint(NETWORK))
        return rig

    def order(
        self,
        ids: str | None = "line-{n}",
        node_id: str | None = None,
        replace: str | None = None,
        key: Key = "node",
        production: bool = False,
    ) -> Order:
        naming = Naming.checked(node_id, None if node_id or replace else ids, replace, 1)
        node_file = self.node_file
        if production:
            node_file = self.folder / "production.toml"
            node_file.write_text(PRODUCTION + self.node_file.read_text())
        if node_file not in self._orders:  # the firmware is compiled for each
            self._orders[node_file] = prepared(node_file, naming, key=key, bauds=bauds_from(921600))[0]
        return replace_in(self._orders[node_file], naming=naming, key=key)

    def words(self, *words: str | Path) -> list[str]:
        """The command's words, but for the passphrase."""
        folders = ("--ca", self.ca_folder, "--fleet", self.fleet_file, "--node", self.node_file)
        return ["provision", *map(str, folders), *map(str, words)]

    @contextlib.contextmanager
    def passphrase(self, text: str = PASSPHRASE) -> Iterator[int]:
        """A file descriptor that gives the passphrase, once."""
        read, write = os.pipe()
        os.write(write, text.encode() + b"\n")
        os.close(write)
        try:
            yield read
        finally:
            os.close(read)

    def limpet(self, *words: str, passphrase: str = PASSPHRASE) -> Done:
        """Run the real command to its end."""
        with self.passphrase(passphrase) as fd:
            done = subprocess.run(
                [LIMPET, *words, "--passphrase-fd", str(fd)],
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=environment(),
                timeout=DEADLINE,
                check=False,
            )
        return Done(done.returncode, done.stdout, done.stderr)

    def live(self, node_id: str) -> tuple[Issued, ...]:
        """The certificates of a node that count, whoever has issued them."""
        return public(self.ca_folder).state.live(node_id, utc_now())

    def revoked(self) -> set[int]:
        """The serial numbers in the authority's revocation lists."""
        text = (self.ca_folder / "crl.pem").read_bytes()
        ends = b"-----END X509 CRL-----\n"
        lists = [x509.load_pem_x509_crl(each + ends) for each in text.split(ends) if each.strip()]
        return {each.serial_number for one in lists for each in one}

    def provision(self, *rigs: Rig, order: Order | None = None, moment: Moment = quietly) -> list[Outcome]:
        """Provision these boards by the Python API, in this process."""
        with (
            crews([rig.url for rig in rigs]) as started,
            Fleet(self.fleet_file) as fleet,
            line(order or self.order(), self.ca, fleet, Lines(lambda text: None), moment) as made,
        ):
            return provision(made, started)
