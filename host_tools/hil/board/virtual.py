"""The rung `virtual`: a virtual board in this process, wired as the rig file says, on a bench of its own."""

import contextlib
import itertools
import secrets
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import Literal

from host_tools import micropython, partitions
from host_tools.devices.port import Port
from host_tools.hil.board.image import NodeImage
from host_tools.hil.board.network import Network
from host_tools.hil.board.wiring import wire
from host_tools.hil.errors import HilError
from host_tools.hil.listener import Listener
from host_tools.hil.rigs import RigFile
from host_tools.hil.timeline import Timeline
from host_tools.virtual.bench import Bench
from host_tools.virtual.board import How, PowerCut, VirtualBoard
from host_tools.virtual.name_server import NameServer
from host_tools.virtual.radio import AccessPoint
from host_tools.virtual.world import World

_MACS = itertools.count(1)
_OURS = bytes.fromhex("240ac4")
"""Espressif's range; what follows is the process' own, and then a number."""
_SSID = "limpet-hil"
_GLANCE_S = 0.02


class VirtualRung:
    """A board that is off until something is installed on it. Several may live in one process."""

    rung: Literal["virtual"] = "virtual"

    def __init__(self, rig: RigFile, timeline: Timeline) -> None:
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="limpet-hil-")))
            self._flash = folder / "flash.bin"
            self._flash.write_bytes(b"\xff" * rig.board.flash_size)
            wired = wire(rig.sensors, rig.board)
            self.world: World = wired.world
            self.parts = wired.parts
            """By the sensor's name."""
            self.quantities = wired.quantities
            """By channel: what the sensors see."""
            self.network = Network(_SSID, secrets.token_urlsafe(12))
            """The one access point in reach; its password is of this run alone."""
            self._mac = _OURS + secrets.token_bytes(2) + bytes((next(_MACS) % 256,))
            self.bench = undo.enter_context(Bench())
            self.virtual = self.bench.run(self._make(rig))
            self.bench.on_close(self.virtual.close)
            self.log = Listener(Port(self.virtual.url, named=True), timeline)
            undo.callback(self.log.close)
            self.power = VirtualPower(self.bench, self.virtual, self.log, timeline)
            self.radio = VirtualRadio(self.bench, self.world, self.network)
            self.radio.on()
            self._stack = undo.pop_all()

    async def _make(self, rig: RigFile) -> VirtualBoard:
        return VirtualBoard(self._flash, rig.board, self.world, self._mac, rfc2217=("127.0.0.1", 0))

    @property
    def port(self) -> str:
        return self.virtual.url

    @property
    def mac(self) -> str:
        return self._mac.hex(":")

    @cached_property
    def micropython(self) -> str:
        return micropython.version()

    def install(self, image: NodeImage) -> None:
        self.power.off()
        self._flash.write_bytes(image.flash())
        self.power.on()

    def reset(self) -> None:
        if not self.power.is_on:
            raise HilError("The board has no power, and a reset does not bring it back: switch it on.")
        self.log.wait_until_open()
        self.log.begin()
        self.bench.run(self.virtual.reset())

    def close(self) -> None:
        self._stack.close()


class VirtualPower:
    """The supply of a virtual board, which can fail at any operation of the flash."""

    def __init__(self, bench: Bench, virtual: VirtualBoard, log: Listener, timeline: Timeline) -> None:
        self._bench = bench
        self._virtual = virtual
        self._log = log
        self._timeline = timeline

    @property
    def is_on(self) -> bool:
        return self._virtual.is_on

    def on(self) -> None:
        """What is on already stays as it is."""
        if not self.is_on:
            self._on(None)
            self._timeline.add("power", "on")

    def off(self) -> None:
        self._bench.run(self._virtual.power_off())
        self._log.settle()
        self._log.begin()
        self._timeline.add("power", "off")

    def cut_at_flash(self, operation: int, how: How = "torn", partition: str | None = None) -> None:
        """Off and on; then it fails by itself at the `operation`-th program or erase of the flash after the
        start, of a partition or of all, and stays off until `on`: before, in the middle of, or after it."""
        start, end = 0, None
        if partition is not None:
            place = partitions.find(self._virtual.board.partition_table(), partition)
            start, end = place.offset, place.end
        self.off()
        self._on(PowerCut(operation, how, start=start, end=end))
        self._timeline.add(
            "power", f"on; fails at flash operation {operation}", how=how, partition=partition or "any"
        )

    def wait_until_off(self, seconds: float) -> None:
        """Until the power has failed as `cut_at_flash` has it. Raises AssertionError when it does not."""
        end = time.monotonic() + seconds
        while self.is_on:
            if time.monotonic() > end:
                raise AssertionError(f"the power did not fail within {seconds:g} s: so much is not written")
            time.sleep(_GLANCE_S)
        self._log.settle()
        self._timeline.add("power", "failed")

    def _on(self, cut: PowerCut | None) -> None:
        if not self._log.is_paused:
            self._log.wait_until_open()
        self._log.begin()
        self._bench.run(self._virtual.power_on(cut))


class VirtualRadio:
    """The access point of a virtual board, and its network's name server."""

    def __init__(self, bench: Bench, world: World, network: Network) -> None:
        self._bench = bench
        self._world = world
        self._network = network

    @property
    def names(self) -> NameServer:
        return self._world.name_server

    def off(self) -> None:
        self._have()

    def on(self) -> None:
        self._have(AccessPoint(self._network.ssid, self._network.password))

    def password(self, text: str | None) -> None:
        self._have(AccessPoint(self._network.ssid, text))

    def _have(self, *access_points: AccessPoint) -> None:
        def change() -> None:
            self._world.access_points[:] = access_points

        self._bench.call(change)
