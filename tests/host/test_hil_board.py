"""What all rungs share: the image, the wiring, the way to a port; and the rung of virtual boards."""

import json
from typing import Any

import pytest

from host_tools import boards, image, partitions
from host_tools.devices.port import Port
from host_tools.devices.probe import Chip
from host_tools.errors import LimpetError, NoDeviceError
from host_tools.hil.board import HilError, Network, NodeImage, open_board
from host_tools.hil.board.finding import find_port
from host_tools.hil.board.network import network_of
from host_tools.hil.board.virtual import VirtualRung
from host_tools.hil.board.wiring import Quantity, wire
from host_tools.hil.node import Node
from host_tools.hil.rigs import WifiSpec, load_rig
from host_tools.hil.rigs.port import PortChoice
from host_tools.hil.timeline import Timeline
from host_tools.image import ImageError
from host_tools.virtual.stimulus import constant
from tests.host.hil_nodes import BME280, firmware, identity, node_image, rig_file
from tests.host.stand import wait_until

BOARD = boards.load_board("virtual")
MAC = "24:0a:c4:00:00:01"
STARTED = "I am 'n01'"

# The image


def test_an_image_is_the_whole_flash():
    made = node_image(BOARD)
    flash = made.flash()
    place = partitions.find(BOARD.partition_table(), "identity")
    assert flash == image.compose(BOARD, made.files, identity())
    assert made.flash(with_identity=False)[place.offset : place.end] == b"\xff" * place.size
    assert json.loads(made.settings)["board"] == "virtual"
    assert NodeImage(BOARD, {}).settings == b""


def test_a_hash_of_the_firmware_is_not_one_of_the_node():
    one, other = node_image(BOARD), node_image(BOARD, sensors=[BME280], identity=identity("n02"))
    assert one.firmware_sha256 == other.firmware_sha256
    assert one.sha256 != other.sha256
    files = {**one.files, "limpet/log.mpy": b""}
    assert node_image(BOARD, files=files).firmware_sha256 != one.firmware_sha256
    hashes = {node_image(BOARD, files={**firmware(), name: b""}).firmware_sha256 for name in ("x", "y")}
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("settings", "has_identity", "locked"),
    [
        (b'{"profile": "production"}', True, True),
        (b'{"profile": "production"}', False, True),
        (b'{"profile": "development"}', True, False),
        (b"{}", True, False),
        (b"[]", True, True),
        (b"{", True, True),
        (b"{", False, False),
        (b"", True, False),
    ],
)
def test_it_knows_whether_the_node_will_be_locked(settings, has_identity, locked):
    """As firmware/boot.py decides it."""
    files = {"limpet.json": settings} if settings else {}
    assert NodeImage(BOARD, files, b"LPID" if has_identity else b"").is_locked is locked


def test_what_is_secret_is_in_no_repr():
    network = Network("bench", "correct horse")
    made = node_image(BOARD, network)
    for shown in (repr(made), repr(network)):
        assert "horse" not in shown
        assert "LPID" not in shown
    assert network.settings() == {"ssid": "bench", "password": "correct horse"}
    assert Network("open").settings() == {"ssid": "open"}


def test_the_stand_in_is_asked_for():
    board = boards.load_board("esp32_generic")
    with pytest.raises(ImageError, match="no image of MicroPython was given"):
        node_image(board).flash()
    assert len(node_image(board, stand_in=True).flash()) == board.flash_size


def test_a_rigs_network_has_its_password_from_a_file(tmp_path):
    path = tmp_path / "password"
    wifi = WifiSpec.model_construct(ssid="b", password_file=path)
    path.write_text("correct horse\n")
    path.chmod(0o600)
    assert network_of(wifi) == Network("b", "correct horse")
    assert network_of(WifiSpec(ssid="b")) == Network("b")
    assert network_of(None) is None
    path.unlink()
    with pytest.raises(LimpetError, match=r"cannot be read"):
        network_of(wifi)


# The wiring


def test_parts_are_wired_as_the_file_says(tmp_path):
    rig = rig_file(
        tmp_path,
        """
rung = "virtual"
board = "virtual"
[sensors.bme280]
period = "1s"
[sensors.outside]
kind = "bme280"
period = "1s"
scl = 18
sda = 19
address = 0x77
[sensors.one]
kind = "ds18b20"
period = "1s"
pin = 4
rom = "28641e0f00000045"
[sensors.two]
kind = "ds18b20"
period = "1s"
pin = 4
rom = "28651e0f00000072"
[sensors.wind]
kind = "current_loop"
pin = 34
shunt = 100.5
quantity = "speed"
unit = "m/s"
range = [-10, 30]
period = "1s"
""",
    )
    wired = wire(rig.sensors, rig.board)
    assert set(wired.world.i2c) == {(22, 21), (18, 19)}
    assert wired.world.i2c[22, 21].parts == [wired.parts["bme280"]]
    parts: Any = wired.parts
    assert wired.world.i2c[18, 19].parts[0].address == 0x77
    assert wired.world.onewire[4].parts == [parts["one"], parts["two"]]
    assert parts["two"].rom.hex() == "28651e0f00000072"
    assert tuple(wired.quantities) == rig.channels
    for value, milliampere in ((-10.0, 4), (30.0, 20)):
        wired.quantities["wind/speed"].follow(constant(value))
        assert wired.world.analog[34].microvolts() == milliampere * 100500


def test_a_quantity_follows_from_when_it_is_told():
    now = [100.0]
    quantity = Quantity(20.0, lambda: now[0])
    assert quantity.value == quantity(5.0) == 20.0
    now[0] = 200.0
    quantity.follow(lambda seconds: 1.5 * seconds)
    assert quantity.value == 0.0
    now[0] = 204.0
    assert quantity.value == quantity(0.0) == 6.0
    quantity.clear()
    assert quantity.value == 20.0


# The way to a port

USB = [
    Port("/dev/ttyUSB0", "1-1.2", 0x10C4, 0xEA60),
    Port("/dev/ttyACM0", "1-1.4:1.0", 0x303A, 0x1001, "24:0A:C4:00:00:09"),
    Port("/dev/ttyUSB1", "1-2:1.0", 0x0403, 0x6010),
    Port("/dev/ttyUSB2", "1-2:1.1", 0x0403, 0x6010),
    Port("/dev/ttyS0"),
]


def asked(port):
    """The chips behind those ports; one does not answer."""
    if port.name == "/dev/ttyUSB2":
        return "/dev/ttyUSB2: no ESP32 answers in its bootloader."
    number = USB.index(port)
    return Chip("ESP32", f"24:0a:c4:00:00:{number:02x}", 0x400000, encrypted=False, secure_boot=False)


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"url": "rfc2217://lab:4000"}, "rfc2217://lab:4000"),
        ({"usb": "1-1.2"}, "/dev/ttyUSB0"),
        ({"usb": "1-1.4"}, "/dev/ttyACM0"),
        ({"usb": "1-2:1.1"}, "/dev/ttyUSB2"),
        ({"mac": "24:0a:c4:00:00:02"}, "/dev/ttyUSB1"),
    ],
)
def test_a_port_is_found(choice, name):
    wanted = PortChoice.model_construct(**{"mac": None, "usb": None, "url": None, **choice})
    assert find_port(wanted, lambda: USB, asked).name == name


def test_a_port_that_tells_its_mac_is_not_asked():
    def nobody(port):
        raise AssertionError(f"{port} was reset")

    assert find_port(PortChoice(mac="24:0a:c4:00:00:09"), lambda: USB, nobody).name == "/dev/ttyACM0"


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (
            {"usb": "1-3"},
            "Nothing is plugged into USB socket 1-3: plug the board in, or correct the rig's port; there are "
            "1-1.2, 1-1.4, 1-2.",
        ),
        (
            {"usb": "1-2"},
            "USB socket 1-2 has several ports, 1-2:1.0 (/dev/ttyUSB1) and 1-2:1.1 (/dev/ttyUSB2): name one "
            "of them.",
        ),
        (
            {"mac": MAC.replace("01", "77")},
            "The board with MAC address 24:0a:c4:00:00:77 is not there (/dev/ttyUSB0 is 24:0a:c4:00:00:00; "
            "/dev/ttyACM0 is 24:0a:c4:00:00:01; /dev/ttyUSB1 is 24:0a:c4:00:00:02; /dev/ttyUSB2: no ESP32 "
            "answers in its bootloader): plug it in, or correct the rig.",
        ),
    ],
)
def test_a_port_that_is_not_found_is_told(choice, sentence):
    with pytest.raises(NoDeviceError) as error:
        find_port(PortChoice(**choice), lambda: USB, asked)
    assert str(error.value) == sentence


def test_without_any_port_that_is_told_too():
    with pytest.raises(NoDeviceError, match=r"is not there \(no port here looks like a board's\): plug"):
        find_port(PortChoice(mac=MAC), list, asked)
    with pytest.raises(NoDeviceError, match=r"correct the rig's port\.$"):
        find_port(PortChoice(usb="1-1"), list, asked)


# The rung of virtual boards


@pytest.fixture(scope="module")
def timeline():
    return Timeline()


@pytest.fixture(scope="module")
def board(timeline):
    made = open_board(load_rig("virtual"), timeline)
    yield made
    made.close()


@pytest.fixture
def node(board):
    made = Node(board, Timeline(), "node")
    made.install(node_image(BOARD, board.network))
    made.says(STARTED)
    return made


def test_a_virtual_board_is_what_its_rig_file_says(board, node):
    rig = load_rig("virtual")
    assert (board.rung, board.port[:20], board.mac[:8]) == ("virtual", "rfc2217://127.0.0.1:", "24:0a:c4")
    assert set(board.parts) == set(rig.sensors)
    assert tuple(board.quantities) == rig.channels
    assert board.micropython[0].isdigit()
    with node.repl() as stopped:
        assert stopped.eval("binascii.hexlify(__import__('machine').unique_id(), ':').decode()") == board.mac


def test_power_that_is_on_already_stays_as_it_is(board, node, timeline):
    boots = board.virtual.boots
    mark = timeline.mark()
    board.power.on()
    assert (board.power.is_on, board.virtual.boots) == (True, boots)
    board.power.off()
    board.power.off()
    assert not board.power.is_on
    with pytest.raises(HilError, match=r"^The board has no power, and a reset does not bring it back"):
        node.reset()
    board.power.on()
    node.says(STARTED)
    assert board.virtual.boots == boots + 1
    told = [event.text for event in timeline.events(mark) if event.source == "power"]
    assert told == ["off", "off", "on"]


def test_the_power_fails_at_a_chosen_write_to_a_partition(board, node):
    board.power.cut_at_flash(2, "after", "spool")
    node.says(STARTED)
    node.enter("""
from esp32 import Partition
[spool], [nvs] = (Partition.find(Partition.TYPE_DATA, label=label) for label in ("spool", "nvs"))
for i in range(9):
    nvs.writeblocks(0, b"n", i)
    spool.writeblocks(0, b"s", i)

""")
    wait_until(lambda: not board.power.is_on, "the power cut")
    flash = board.virtual.flash.read_bytes()
    for name, written in (("nvs", b"nn\xff"), ("spool", b"ss\xff")):
        place = partitions.find(BOARD.partition_table(), name)
        assert flash[place.offset : place.offset + 3] == written
    board.power.on()
    node.says(STARTED)
    with pytest.raises(partitions.PartitionTableError, match="There is no partition 'spol'"):
        board.power.cut_at_flash(1, "before", "spol")
    assert board.power.is_on


def test_the_air_is_ours(board, node):
    def joined():
        return board.virtual.peripherals.station.is_up()

    wait_until(joined, "the Wi-Fi")
    board.radio.off()
    wait_until(lambda: not joined(), "no Wi-Fi")
    board.radio.on()
    wait_until(joined, "the Wi-Fi again")
    board.radio.password("another")
    wait_until(lambda: not joined(), "the wrong password")
    board.radio.on()
    wait_until(joined, "the right password")
    assert board.radio.names is board.world.name_server


def test_boards_live_side_by_side(board, node):
    other = VirtualRung(load_rig("virtual"), Timeline())
    try:
        second = Node(other, Timeline(), "node")
        second.install(node_image(BOARD, other.network, identity=identity("n02")))
        second.says("I am 'n02'")
        assert other.mac != board.mac
        assert other.network.password != board.network.password
        assert node.answers() == "n01"
    finally:
        other.close()


def test_a_board_that_is_closed_is_gone():
    made = VirtualRung(load_rig("virtual"), Timeline())
    flash = made.virtual.flash
    made.close()
    assert not flash.exists()
    assert not made.log._thread.is_alive()
