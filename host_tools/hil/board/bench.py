"""The rung `bench`: a board on a desk, or wherever its port can be reached."""

import hashlib
import time

from host_tools import partitions
from host_tools.devices.port import Port
from host_tools.errors import LimpetError, NoDeviceError
from host_tools.hil.board.finding import find_port
from host_tools.hil.board.flashing import flash
from host_tools.hil.board.image import NodeImage
from host_tools.hil.board.network import network_of
from host_tools.hil.board.protocol import Power, RungName
from host_tools.hil.board.session import Session, digest, session
from host_tools.hil.listener import Listener
from host_tools.hil.rigs import RigFile
from host_tools.hil.timeline import Timeline
from host_tools.line import open_line

_COMES_S = 10.0
_LOOK_AGAIN_S = 0.5
_ESP32 = "esp32"
"""`sys.platform` of a real one."""
_KEPT_BY_NODE = ("identity", "spool", "vfs")


class BenchRung:
    """A board that somebody has plugged in.

    It is flashed when it is first installed on, and whenever another MicroPython, bootloader or partition
    table is asked for; otherwise what differs goes through the raw REPL, which takes seconds.
    """

    radio = None

    def __init__(
        self, rig: RigFile, timeline: Timeline, power: Power | None = None, port: str | None = None
    ) -> None:
        """`power` is switched on: without it there may be no port to find. `port` is where its labgrid place
        has it. Raises NoDeviceError when it is not there, or cannot be opened.
        """
        self.network = network_of(rig.wifi)
        self._timeline = timeline
        self._mac = (rig.port.mac if rig.port else None) or ""
        self._micropython = ""
        self._platform = _ESP32
        self._base = ""
        """The hash of what is flashed on it, as long as the rest can be restored."""
        if power is not None:
            power.on()
        self.log = Listener(_opened(rig, port, _COMES_S if power else 0.0), timeline)
        self.power = BenchPower(power, self.log) if power else None

    @property
    def rung(self) -> RungName:
        """A virtual board behind a port of its own is no bench, whatever the rig file says."""
        return "bench" if self._platform == _ESP32 else "virtual"

    @property
    def port(self) -> str:
        return self.log.current

    @property
    def mac(self) -> str:
        """Empty as long as nobody has asked the chip."""
        return self._mac

    @property
    def micropython(self) -> str:
        """Empty before the first installation."""
        return self._micropython

    def install(self, image: NodeImage) -> None:
        if self.power is not None and not self.power.is_on:
            self.power.on()
        self.log.wait_until_open()
        base = _base_of(image)
        with self.log.paused() as port:
            if base != self._base or not self._is_restored(port, image):
                self._mac = flash(port, image, self._mac, self._timeline)
                # It has started, to show that it does. A locked node lets nobody take that back.
                if not image.is_locked:
                    self._restore(port, image)
        self._base = "" if image.is_locked else base
        self.reset()

    def reset(self) -> None:
        if self.log.press_reset():
            return
        self.log.prompt()
        self.log.begin()
        self.log.write(b"import machine; machine.reset()\r")

    def close(self) -> None:
        self.log.close()

    def _is_restored(self, port: str, image: NodeImage) -> bool:
        try:
            self._restore(port, image)
        except LimpetError as error:
            self._timeline.add("node", f"not restored, so it is flashed: {error}")
            return False
        return True

    def _restore(self, port: str, image: NodeImage) -> None:
        """Have what the node changes itself as the image has it, through the raw REPL."""
        with session(port, image.board.partition_table()) as board:
            self._micropython = board.micropython
            self._platform = board.eval("sys.platform")
            restore(board, image)


class BenchPower:
    """A supply that tells the log where a start begins."""

    def __init__(self, supply: Power, log: Listener) -> None:
        self._supply = supply
        self._log = log
        self.is_on = True

    def on(self) -> None:
        self._supply.on()
        self.is_on = True

    def off(self) -> None:
        self._supply.off()
        self.is_on = False
        self._log.settle()
        self._log.begin()


def _opened(rig: RigFile, named: str | None, seconds: float) -> Port:
    """The port of a rig, once it opens; one that was just given power may need a while."""
    end = time.monotonic() + seconds
    while True:
        try:
            if named is not None:
                found = Port(named, named=True)
            elif rig.port is not None:
                found = find_port(rig.port)
            else:
                raise NoDeviceError(
                    f"Rig '{rig.name}' is in a lab: it has no port before its place is acquired."
                )
            open_line(found.name).close()
            return found
        except NoDeviceError:
            if time.monotonic() >= end:
                raise
        time.sleep(_LOOK_AGAIN_S)


def restore(board: Session, image: NodeImage) -> None:
    """Files, identity and a blank spool, on a board that has the image's MicroPython and partitions."""
    names = {each.name for each in image.board.partition_table()}
    if "spool" in names:
        board.flash.erase("spool")
    board.files.make(image.files)
    place = partitions.find(image.board.partition_table(), "identity")
    identity = image.identity.ljust(place.size, b"\xff")
    if board.flash.digest("identity") != digest(identity):
        board.flash.write("identity", identity)


def _base_of(image: NodeImage) -> str:
    """The hash of what is written by flashing alone: bootloader, partition table, MicroPython."""
    flash = bytearray(image.flash(with_identity=False))
    for each in image.board.partition_table():
        if each.name in _KEPT_BY_NODE:
            flash[each.offset : each.end] = b"\xff" * each.size
    return hashlib.sha256(flash).hexdigest()
