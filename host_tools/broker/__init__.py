"""A broker that admits only clients with a certificate of our authority: Mosquitto, or the embedded one."""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from host_tools.broker import embedded, mosquitto
from host_tools.broker.acl import Access
from host_tools.broker.config import BrokerConfig
from host_tools.broker.process import BrokerProcess
from host_tools.errors import LimpetError
from host_tools.pki import files
from host_tools.pki.names import CONSOLE

Kind = Literal["mosquitto", "embedded"]


class NoMosquittoError(LimpetError):
    """There is no Mosquitto here that could be used."""


class Broker:
    """A running broker. Leaving its `with` block ends it."""

    def __init__(
        self, kind: Kind, title: str, address: str, port: int, process: BrokerProcess, folder: Path | None
    ) -> None:
        self.kind: Kind = kind
        self.title = title
        """What it is, for people: `Mosquitto 2.0.11`."""
        self.address = address
        self.port = port
        self.log = process.log
        self._process = process
        self._folder = folder

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.alive

    def pause(self) -> None:
        """Stop it where it is, with SIGSTOP: its connections stay, and nobody answers."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._process.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it with SIGKILL, then remove its files as `stop` does."""
        self._process.signal(signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End it and remove its files; doing it again does nothing."""
        self._process.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_broker(
    pki: Path,
    prefix: str = "limpet",
    port: int = 0,
    *,
    prefer: Kind | None = None,
    address: str = "127.0.0.1",
    consoles: Sequence[str] = (CONSOLE,),
    run_folder: Path | None = None,
    persistent: bool = False,
) -> Broker:
    """Start a broker and return it once it listens; port 0 picks a free one.

    `pki` is the folder of the authority, with `broker.key` and `broker.crt` beside `ca.crt`. `prefer` demands
    one of the two kinds; without it Mosquitto 2.0 or later is taken where it is installed. `consoles` are the
    certificate names that may read everything below `prefix`. Configuration and log stand in `run_folder`,
    or in a temporary folder that goes with the broker. A `persistent` broker keeps sessions and messages
    there too, for the next one; only Mosquitto does.
    Raises LimpetError if something is missing or wrong, the port is busy, or the broker does not start.
    """
    config = BrokerConfig.checked(pki, Access(prefix, tuple(consoles)), address, port)
    return launch(config, prefer=prefer, run_folder=run_folder, persistent=persistent)


def launch(
    config: BrokerConfig,
    *,
    prefer: Kind | None = None,
    run_folder: Path | None = None,
    persistent: bool = False,
) -> Broker:
    """Start a broker as `start_broker` does, on a configuration that nobody has checked: with a certificate
    that is out of date, say. Raises NoMosquittoError if only Mosquitto would do and is not there.
    """
    executable, title = _choose("mosquitto" if persistent else prefer)
    with contextlib.ExitStack() as undo:
        if run_folder is None:
            folder = Path(tempfile.mkdtemp(prefix="limpet-broker-"))
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
        else:
            folder = run_folder.resolve()
            files.make_private_folder(folder)
        if executable:
            process, port = mosquitto.start(executable, config, folder, persistent=persistent)
        else:
            process, port = embedded.start(config, folder)
        undo.pop_all()
    kind: Kind = "mosquitto" if executable else "embedded"
    return Broker(kind, title, config.address, port, process, None if run_folder else folder)


def _choose(prefer: Kind | None) -> tuple[str | None, str]:
    """The executable of Mosquitto, None for the embedded broker; and what to call it."""
    if prefer == "embedded":
        return None, embedded.title()
    executable = mosquitto.find_executable()
    version = mosquitto.version(executable) if executable else None
    if executable and version and mosquitto.is_usable(version):
        return executable, f"Mosquitto {'.'.join(map(str, version))}"
    if prefer == "mosquitto":
        found = f"{executable} is too old" if executable else "it is not installed"
        raise NoMosquittoError(
            f"Mosquitto 2.0 or later is needed, and {found}: install the package `mosquitto`."
        )
    return None, embedded.title()
