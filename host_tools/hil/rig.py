"""One rig, opened for a run: its board, and the broker, the link and the clock that the board meets."""

import contextlib
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from host_tools import image, paths, settings
from host_tools.hil import lab, lease
from host_tools.hil.authority import RunAuthority
from host_tools.hil.blocked import Blocked
from host_tools.hil.board import Board, Network, NodeImage, open_board
from host_tools.hil.board.finding import find_port
from host_tools.hil.board.protocol import RungName
from host_tools.hil.broker import Witness
from host_tools.hil.clock import Clock
from host_tools.hil.evidence import Samples, Scrubber, Where
from host_tools.hil.link import Link
from host_tools.hil.node import Node
from host_tools.hil.power import PowerControl, make_power
from host_tools.hil.rigs import RigFile, capabilities
from host_tools.hil.stimulus import Stimulus, make_stimulus
from host_tools.hil.timeline import Event, Timeline
from host_tools.pki import partition
from host_tools.settings.model import Broker, NodeFile, Server

NODE_ID = "node"
_LOOPBACK = "127.0.0.1"
_SOMEWHERE = ("192.0.2.1", 9)
"""An address that nothing is sent to (RFC 5737): the way out to it is the way out to the board."""
_TTL_S = 900.0
"""A test that takes longer than that hangs."""
_QUICK: Mapping[str, Any] = {"keepalive": 10, "health_s": 1, "batch_ms": 200, "retry_ms": 300}
"""So that a test sees in seconds what takes minutes in a plant; a node file allows none of them so short."""
_LAST_WORDS = 5
"""Lines."""
_VERSION = re.compile(r'^__version__ = "(.+)"', re.MULTILINE)


class Rig:
    """Use it as a context manager, and `test` around each test: nothing of one test is left for the next."""

    def __init__(
        self,
        file: RigFile,
        firmware: Path = paths.FIRMWARE,
        scrubber: Scrubber | None = None,
        *,
        holder: str = "a run",
        wait_s: float = 0.0,
        on_wait: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`scrubber` is told the rig's secrets. `holder` is who others are told that has it, `wait_s` how
        long to wait for one who has it, which `on_wait` is told."""
        self.file = file
        self.name = file.name
        self.capabilities = capabilities(file)
        self.timeline = Timeline()
        self._scrubber = scrubber or Scrubber()
        self.firmware = firmware
        """The folder of the firmware under test."""
        self._holder, self._wait_s, self._on_wait = holder, wait_s, on_wait
        self._stack = contextlib.ExitStack()
        self._lease: lease.Lease | None = None
        self._test: contextlib.ExitStack | None = None
        self._broker: Witness | None = None
        self._mark = 0
        self._count = 0

    def __enter__(self) -> Self:
        """Raises Blocked when somebody else has it or a program is missing, LimpetError when it is not
        there."""
        with contextlib.ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="limpet-hil-")))
            place = self._hold(undo)
            supply = place.power if place and place.power else make_power(self.file.power, self.timeline)
            self.board: Board = open_board(
                self.file, self.timeline, power=supply, port=place.url if place else None
            )
            undo.callback(self.board.close)
            self._address = address_of(self.file)
            self.authority = RunAuthority(folder / "authority")
            self._clock = undo.enter_context(Clock(self.timeline, address=self._address))
            self._link = undo.enter_context(
                Link(self.timeline, address=self._address, radio=self.board.radio)
            )
            self._stimulus = make_stimulus(self.file, self.board, self.timeline, find_port)
            self._node = Node(self.board, self.timeline, NODE_ID)
            self._folder = folder
            self._stack = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            if self._test:  # pytest was interrupted in the middle of it
                self._test.close()

    @contextlib.contextmanager
    def test(self) -> Iterator[None]:
        """Around one test. What it asks for is made when it asks, and is gone, or as it was, at the end."""
        if self._lease:
            self._lease.renew()
        self._mark = self.timeline.mark()
        with contextlib.ExitStack() as self._test:
            yield
        self._test = self._broker = None

    # What a test has

    @property
    def rung(self) -> RungName:
        """`virtual`, `emulator` or `bench`: what the board itself says that it is."""
        return self.board.rung

    @property
    def broker(self) -> Witness:
        """A broker of this test's own, which runs."""
        self._want("network", "its board does not reach this machine")
        if self._broker is None:
            self._broker = self._new_broker(_LOOPBACK)
            self._link.lead_to(self._broker)
        return self._broker

    def another_broker(self, prefix: str = "limpet") -> Witness:
        """One more, of the same authority, which nodes reach at its `address` and `port` without a link; for
        nodes whose topics begin with `prefix`."""
        self._want("network", "its board does not reach this machine")
        return self._new_broker(self._address, prefix)

    def another_clock(self) -> Clock:
        """One more time server, which nodes reach at its `address` and `port`."""
        self._want("network", "its board does not reach this machine")
        return self._during_the_test.enter_context(Clock(self.timeline, address=self._address))

    def in_service(self) -> Node:
        """The node with the suite's settings and nothing kept from before; where the rig has a network, its
        readings come."""
        if "network" not in self.capabilities:
            self._node.install(self.image)
            self._node.says(f"I am '{NODE_ID}'")
            return self._node
        broker = self.broker
        self._node.install(self.image)
        try:
            broker.wait_for_readings(self._node, 1)
        except AssertionError as error:
            said = self.board.log.after(self.board.log.since).splitlines()[-_LAST_WORDS:]
            raise AssertionError("\n".join((f"{error}; the node's last words:", *said))) from None
        return self._node

    @property
    def power(self) -> PowerControl:
        self._want("power", "nothing can switch its board's supply")
        control = PowerControl(self.board.power, self._hears)
        self._during_the_test.callback(control.close)
        return control

    @property
    def link(self) -> Link:
        self._want("network", "its board does not reach this machine")
        self._during_the_test.callback(self._link.clear)
        return self._link

    @property
    def stimulus(self) -> Stimulus:
        self._during_the_test.callback(self._stimulus.clear)
        return self._stimulus

    @property
    def clock(self) -> Clock:
        self._want("network", "its board does not reach this machine")
        self._during_the_test.callback(self._clock.clear)
        return self._clock

    # What is known of it

    @cached_property
    def image(self) -> NodeImage:
        """What `in_service` installs."""
        identity = self.authority.identity(NODE_ID)
        self._scrubber.add(identity.key)
        network = self.board.network
        if network and network.password:
            self._scrubber.add(network.password)
        files = image.firmware_files(self.firmware)
        files[image.SETTINGS_NAME] = settings.dump(self._settings(network))
        board = self.file.board
        stand_in = self.rung == "virtual" or board.micropython is None
        return NodeImage(
            board,
            files,
            partition.encode(identity),
            None if stand_in else image.micropython_image(board),
            stand_in=stand_in,
        )

    @property
    def where(self) -> Where:
        """What a result of this rig says that it ran on, as far as it has come to that."""
        made = vars(self).get("image")
        found = _VERSION.search((self.firmware / "limpet" / "__init__.py").read_text())
        return Where(
            rung=self.rung,
            rig=self.name,
            board=self.file.board.name,
            mac=self.board.mac,
            firmware=found[1] if found else "",
            firmware_sha256=made.firmware_sha256 if made else "",
            image_sha256=made.sha256 if made else "",
            micropython=self.board.micropython,
        )

    def events(self) -> list[Event]:
        """What happened since the test began."""
        return self.timeline.events(self._mark)

    def readings(self) -> dict[str, Samples]:
        """What this test's broker has got, by channel."""
        if self._broker is None:
            return {}
        found: dict[str, list[tuple[float, float | None]]] = {}
        try:
            came = self._broker.readings(self._node, settle=None)
        except AssertionError:  # a pack that cannot be read: the test's failure, and not the report's
            return {}
        for each in came:
            value = None if each.value is None else float(each.value)
            found.setdefault(each.channel, []).append((each.unix_ms / 1000, value))
        return {channel: tuple(samples) for channel, samples in found.items()}

    # How it is made

    def _hold(self, undo: contextlib.ExitStack) -> lab.PlacePort | None:
        """Have a bench's board for this run alone; one of a lab by the lab's own means."""
        claim = lease.claim_of(self.file)
        if claim is None:
            return None  # made anew for each run
        self._lease = undo.enter_context(
            lease.held(claim, self._holder, wait_s=self._wait_s, ttl_s=_TTL_S, on_wait=self._on_wait)
        )
        if self.file.place is None:
            return None
        return undo.enter_context(lab.place(self.file.place, self._on_wait, self._wait_s))

    def _new_broker(self, address: str, prefix: str = "limpet") -> Witness:
        self._count += 1
        folder = self._folder / f"broker-{self._count}"
        folder.mkdir()
        witness = Witness(
            folder, self.authority, self.timeline, address=address, prefix=prefix, now=self._clock.now
        )
        return self._during_the_test.enter_context(witness)

    def _settings(self, network: Network | None) -> dict[str, Any]:
        node_file = NodeFile.model_construct(
            wifi=[],
            broker=[Broker(host=self._address, port=self._link.port, name=Witness.name)],
            ntp=[Server(self._address, self._clock.port)],
            sensors=self.file.sensors,
        )
        known = settings.to_node_json(node_file, self.file.board)
        return {**known, "wifi": [network.settings()] if network else [], **_QUICK}

    def _hears(self, text: str) -> Callable[[float], bool]:
        since = self.board.log.mark()
        return lambda seconds: self.board.log.find(text, seconds, since) is not None

    def _want(self, capability: str, why: str) -> None:
        if capability not in self.capabilities:
            raise Blocked(f"The rig '{self.name}' has no {capability}: {why}.")

    @property
    def _during_the_test(self) -> contextlib.ExitStack:
        if self._test is None:
            raise RuntimeError("outside of a test")
        return self._test


def address_of(rig: RigFile) -> str:
    """This machine's address as the rig's board reaches it: the file's, or the one towards the outside."""
    if rig.host:
        return rig.host
    if rig.rung == "virtual":
        return _LOOPBACK
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way, contextlib.suppress(OSError):
        way.connect(_SOMEWHERE)
        return str(way.getsockname()[0])
    return _LOOPBACK
