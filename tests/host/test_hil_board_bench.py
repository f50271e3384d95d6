"""The rung of bench boards: virtual ones, reached by their URLs alone, as a real board is by its port."""

import pytest

from host_tools import partitions
from host_tools.errors import NoDeviceError
from host_tools.hil.board import HilError, open_board
from host_tools.hil.board.bench import BenchRung
from host_tools.hil.node import Node
from host_tools.hil.timeline import Timeline
from tests.host.hil_nodes import BME280, bench_rig, identity, node_image, rig_file
from tests.host.stand import wait_until
from tests.host.virtual_rig import BLANK, boards_on_bench

STARTED = "I am 'n01'"


class Switch:
    """A supply that a rig file would name."""

    def __init__(self, rig):
        self.rig = rig
        self.switched = []

    def on(self):
        self.switched.append("on")
        self.rig.power_on()

    def off(self):
        self.switched.append("off")
        self.rig.power_off()


class Desk:
    """A board on a desk: `rig` is the board itself, `board` and `node` all that a test of it would have."""

    def __init__(self, rig, folder):
        self.rig = rig
        self.switch = Switch(rig)
        self.timeline = Timeline()
        self.file = bench_rig(folder, rig.url)
        self.board = open_board(self.file, self.timeline, power=self.switch)
        self.node = Node(self.board, self.timeline, "node")
        self.image = node_image(self.file.board)

    def flashed(self, since):
        """Whether it was flashed since a mark of the timeline."""
        return any(event.text.startswith("flashing") for event in self.timeline.events(since))

    def on_it(self, name):
        place = partitions.find(self.node.image.board.partition_table(), name)
        return self.rig.flash.read_bytes()[place.offset : place.end]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A board that came blank, and has the firmware now."""
    with boards_on_bench(flash=BLANK) as [rig]:
        rig.power_off()
        made = Desk(rig, tmp_path_factory.mktemp("desk"))
        try:
            made.node.install(made.image)
            made.node.says(STARTED)
            yield made
        finally:
            made.board.close()


def test_a_blank_board_is_flashed(desk):
    assert desk.flashed(0)
    # The file says "bench", and the board that it is a virtual one.
    assert (desk.board.rung, desk.board.port, desk.board.mac) == ("virtual", desk.rig.url, desk.rig.mac)
    assert desk.board.micropython.count(".") == 2
    assert (desk.board.radio, desk.board.network) == (None, None)
    desk.node.restore()
    assert desk.on_it("identity").startswith(desk.image.identity)


def test_what_the_node_changes_is_restored_without_flashing(desk):
    with desk.node.repl() as stopped:
        stopped.flash.write("spool", b"readings" * 1000)
        stopped.flash.erase("identity")
        stopped.files.write("limpet.json", b"{}")
        stopped.files.write("notes/mine.txt", b"notes")
        stopped.files.write("limpet/mine.py", b"")
        stopped.files.remove("limpet/node.mpy")
    mark = desk.timeline.mark()
    desk.node.restore()
    desk.node.says(STARTED)
    assert not desk.flashed(mark)
    assert b"readings" not in desk.on_it("spool")
    with desk.node.repl() as stopped:
        assert stopped.files.list().keys() == desk.image.files.keys()
        assert "notes" not in stopped.eval("os.listdir()")
        assert stopped.files.read("limpet.json") == desk.image.settings


def test_it_begins_with_nothing_of_an_earlier_start(desk):
    """The first thing that runs after an installation is its one start."""
    desk.node.configure(sensors=[BME280])
    desk.node.says(STARTED)
    assert desk.node.log.after(desk.node.log.since).startswith("ets ")
    assert desk.node.log.after(desk.node.log.since).count("limpet ") == 1


def test_a_board_that_does_not_let_itself_be_restored_is_flashed(desk):
    """A damaged filesystem keeps MicroPython from its prompt."""
    desk.rig.power_off()
    place = partitions.find(desk.file.board.partition_table(), "vfs")
    with desk.rig.flash.open("r+b") as flash:
        flash.seek(place.offset)
        flash.write(bytes(16384))
    desk.rig.power_on()
    mark = desk.timeline.mark()
    desk.node.restore()
    desk.node.says(STARTED)
    assert desk.flashed(mark)
    assert any("not restored, so it is flashed" in event.text for event in desk.timeline.events(mark))


def test_a_reset_is_one_of_its_line(desk):
    desk.node.reset()
    desk.node.says(STARTED)
    assert "POWERON_RESET" in desk.node.log.after(desk.node.log.since)


def test_a_port_without_lines_is_reset_by_the_repl(desk, tmp_path):
    """As on a serial server that speaks plain TCP."""
    with desk.node.port_free():
        url = "socket://" + desk.rig.url.partition("://")[2]
        plain = BenchRung(bench_rig(tmp_path, url), Timeline())
        try:
            node = Node(plain, Timeline(), "node")
            plain.reset()
            node.says(STARTED, since=0)
        finally:
            plain.close()


def test_a_supply_is_switched_on_when_it_is_off(desk):
    assert desk.switch.switched == ["on"]  # to begin with; installing needs no more
    desk.board.power.off()
    assert not desk.board.power.is_on
    assert desk.node.log.after(desk.node.log.since) == ""
    desk.node.restore()
    desk.node.says(STARTED)
    assert desk.switch.switched == ["on", "off", "on"]
    assert desk.board.power.is_on


def test_its_mac_is_asked_of_the_boards_that_are_there(desk, tmp_path, monkeypatch):
    monkeypatch.setenv("LIMPET_PORTS", desk.rig.url)
    text = f'rung = "bench"\nboard = "virtual"\nport = {{ mac = "{desk.rig.mac}" }}\n'
    with desk.node.port_free():
        board = BenchRung(rig_file(tmp_path, text), Timeline())
        try:
            assert (board.port, board.mac, board.power) == (desk.rig.url, desk.rig.mac, None)
        finally:
            board.close()
    desk.node.reset()
    desk.node.says(STARTED)


def test_another_kind_of_board_is_refused(desk, tmp_path):
    file = bench_rig(tmp_path, desk.rig.url, "esp32s3_devkitc")
    with desk.node.port_free():
        board = BenchRung(file, Timeline())
        try:
            with pytest.raises(HilError, match=r"its chip is an ESP32, but board 'esp32s3_devkitc' has an"):
                board.install(node_image(file.board, stand_in=True))
        finally:
            board.close()
    desk.node.reset()
    desk.node.says(STARTED)


def test_a_port_that_is_held_is_told_at_once(desk, tmp_path):
    with pytest.raises(NoDeviceError, match=r"cannot be opened: nothing listens there, or another"):
        BenchRung(bench_rig(tmp_path, desk.rig.url), Timeline())
    with pytest.raises(NoDeviceError, match="'/dev/ttyUSB77' does not exist: plug the board in"):
        BenchRung(desk.file, Timeline(), port="/dev/ttyUSB77")


def test_a_place_of_a_lab_has_its_port_from_the_lab(desk, tmp_path):
    file = rig_file(tmp_path, 'rung = "bench"\nboard = "virtual"\nplace = { name = "esp32-1" }\n')
    with pytest.raises(NoDeviceError, match="Rig 'desk' is in a lab: it has no port before its place"):
        BenchRung(file, Timeline())
    with desk.node.port_free() as port:
        board = BenchRung(file, Timeline(), port=port)
        try:
            wait_until(lambda: board.log.is_open, "the port")
        finally:
            board.close()


def test_other_firmware_takes_no_flashing_and_other_partitions_do(desk):
    """A node that is locked lets nobody at its REPL, and is flashed all the same."""
    mark = desk.timeline.mark()
    desk.node.provision(files={"main.py": b"print('something else')\n"})
    desk.node.says("something else")
    assert not desk.flashed(mark)
    desk.node.flash.write("spool", b"readings" * 1000)
    settings = {**desk.node.settings, "profile": "production"}
    files = {"main.py": desk.image.files["main.py"]}
    desk.node.provision(spool_sectors=4, settings=settings, files=files, identity=identity("n02"))
    desk.node.says("I am 'n02'")
    assert desk.flashed(mark)
    table = partitions.decode(desk.rig.flash.read_bytes()[partitions.TABLE_OFFSET :])
    assert partitions.find(table, "spool").size == 4 * 4096
    assert b"readings" not in desk.on_it("spool")
    assert desk.node.answers() == "n02"
