"""The node as a test sees it, through its serial port: real firmware on a virtual board."""

import json
import re
import shutil

import pytest

from host_tools import partitions, paths
from host_tools.errors import UsageError
from host_tools.hil.board import HilError
from host_tools.hil.board.virtual import VirtualRung
from host_tools.hil.node import Node
from host_tools.hil.rigs import load_rig
from host_tools.hil.timeline import Timeline
from host_tools.partitions import SECTOR
from host_tools.repl import BoardError, Repl
from tests.host.hil_nodes import BME280, identity, node_image
from tests.host.stand import wait_until

STARTED = "I am 'n01'"
SENSORS = (BME280, {"name": "wind", "kind": "current_loop", "quantity": "speed", "period_ms": 500, "pin": 34})


@pytest.fixture(scope="module")
def board():
    made = VirtualRung(load_rig("virtual"), Timeline())
    yield made
    made.close()


@pytest.fixture
def image(board):
    return node_image(board.virtual.board, board.network)


@pytest.fixture
def node(board, image):
    made = Node(board, Timeline(), "node")
    made.install(image)
    made.says(STARTED)
    return made


def flash_of(board, partition):
    place = partitions.find(board.virtual.board.partition_table(), partition)
    return board.virtual.flash.read_bytes()[place.offset : place.end]


# Who it is, and what it says


def test_its_id_is_that_of_its_identity(board, node):
    assert (node.id, node.mac, node.port) == ("n01", board.mac, board.virtual.url)
    node.provision(identity=identity("n02"))
    assert node.id == "n02"
    node.provision(identity=b"")
    assert node.id == "n02"  # its topics are still called so


def test_its_channels_are_those_of_its_sensors(node):
    assert node.channels == ()
    node.configure(sensors=SENSORS)
    assert node.channels == ("bme280/temperature", "bme280/pressure", "bme280/humidity", "wind/speed")


def test_without_an_image_there_is_nothing_to_start(board):
    fresh = Node(board, Timeline(), "node")
    for use in (fresh.restore, fresh.configure, lambda: fresh.files.list()):
        with pytest.raises(HilError, match=r"^Nothing is installed on the node yet"):
            use()


def test_what_it_said_before_its_last_start_does_not_count(board, node):
    board.power.off()
    with pytest.raises(AssertionError, match="I am 'n01'"):
        node.says(STARTED, seconds=0)
    board.power.on()
    assert node.says(re.compile(r"I am '(.*)'")) == STARTED
    node.reset()
    node.says(STARTED)
    assert node.log.after(node.log.since).count(STARTED) == 1


def test_it_is_asked_who_it_is_while_it_runs(board, node):
    boots = board.virtual.boots
    assert node.answers() == "n01"
    assert board.virtual.boots == boots
    board.power.off()
    assert node.answers(seconds=0.2) is None


def test_it_is_left_alone(node, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    node.run_for(30)
    assert slept == [30]


# What it is made of


def test_every_installation_begins_from_nothing(board, node):
    node.flash.write("spool", b"readings")
    node.files.write("notes.txt", b"mine")
    board.power.off()
    node.restore()
    board.power.off()
    assert b"readings" not in flash_of(board, "spool")
    board.power.on()
    assert "notes.txt" not in node.files.list()


def test_a_setting_that_there_is_not_is_a_slip(node):
    with pytest.raises(UsageError, match=r"A node has no setting 'helth_s'\. Did you mean 'health_s'\?"):
        node.configure(helth_s=2)


def test_settings_are_changed_one_by_one(node):
    node.configure(keepalive=7, health_s=None)
    node.configure(retry_ms=400)
    on_board = json.loads(node.files.read("limpet.json"))
    assert on_board == node.settings
    assert (on_board["keepalive"], on_board["retry_ms"]) == (7, 400)
    assert "health_s" not in on_board
    node.restore()
    assert (node.settings["keepalive"], node.settings["health_s"]) == (10, 1)


def test_settings_may_be_damaged_on_purpose(node):
    node.provision(settings=b'{"v": 1')
    node.says("/limpet.json is damaged")
    assert node.answers() == "-"
    assert node.settings == {}
    node.restore()
    node.says(STARTED)


def test_it_may_be_without_identity(node):
    node.provision(identity=b"")
    node.says("identity partition is blank")


def test_files_are_added_and_taken_away(node):
    node.provision(files={"main.py": b"print('something else')\n", "limpet/node.mpy": None})
    node.says("something else")
    files = node.files.list()
    assert "limpet/node.mpy" not in files
    assert "limpet/log.mpy" in files


@pytest.mark.parametrize(("sectors", "size"), [(4, 4 * SECTOR), (0, None)])
def test_its_spool_may_be_smaller(node, sectors, size):
    node.provision(spool_sectors=sectors)
    with node.repl() as board:
        found = board.eval("[p.info()[3] for p in Partition.find(Partition.TYPE_DATA, label='spool')]")
        assert found == ([size] if size else [])
    if size:
        assert len(node.flash.read("spool")) == size
    else:
        with pytest.raises(partitions.PartitionTableError, match="There is no partition 'spool'"):
            node.flash.read("spool")


def test_firmware_is_deployed_as_users_do(node, tmp_path):
    folder = tmp_path / "firmware"
    shutil.copytree(paths.FIRMWARE, folder)
    package = folder / "limpet" / "__init__.py"
    old = re.search(r'__version__ = "(.*)"', package.read_text())
    assert old
    package.write_text(package.read_text().replace(old[1], "9.9.9"))
    node.configure(keepalive=7)
    node.says(f"limpet {old[1]}")
    node.deploy(folder)
    assert f"limpet {old[1]}" not in node.log.after(node.log.since)
    assert node.answers() == "n01"
    node.reset()
    node.says("node: limpet 9.9.9")
    assert json.loads(node.files.read("limpet.json"))["keepalive"] == 7
    node.restore()
    node.says(f"limpet {old[1]}")


# Within it


def test_python_runs_on_it_and_the_firmware_afterwards(board, node):
    boots = board.virtual.boots
    with node.repl() as stopped:
        assert node.is_stopped
        assert stopped.eval("6 * 7") == 42
        assert stopped.exec("for i in range(2): print(i)") == "0\n1\n"
        with node.repl() as same:
            assert same is stopped
        stopped.exec("kept = [1]")
        for use in (stopped.exec, stopped.eval):
            with pytest.raises(BoardError, match="KeyError: 7"):
                use("{}[7]")
        assert stopped.eval("kept") == [1]
    assert not node.is_stopped
    node.says(STARTED)
    assert node.log.after(node.log.since).startswith("ets ")
    assert board.virtual.boots > boots


def test_the_firmware_runs_again_when_a_test_fails_within(node):
    mark = node.log.mark()
    with pytest.raises(ZeroDivisionError), node.repl():
        raise ZeroDivisionError
    assert not node.is_stopped
    node.says(STARTED, since=mark)


def test_a_board_that_is_switched_off_within_stays_off(board, node):
    with node.repl():
        board.power.off()
    assert not board.power.is_on
    board.power.on()
    node.says(STARTED)


def test_files_go_there_and_back(node):
    data = bytes(range(256)) * 20
    with node.repl() as stopped:
        for content in (data, data[:4096], data[:100], b""):
            stopped.files.write("a/b/c.bin", content)
            assert stopped.files.read("a/b/c.bin") == content
        stopped.files.write("a/d", b"d")
        assert {"a/b/c.bin", "a/d"} <= stopped.files.list().keys()
        stopped.files.remove("a/d")
        assert "a/d" not in stopped.files.list()
        stopped.files.remove("a")
        assert "a" not in stopped.eval("os.listdir()")
        for use in (stopped.files.read, stopped.files.remove):
            with pytest.raises(HilError, match=r"^There is no 'a/d' on the board\.$"):
                use("a/d")


def test_partitions_are_read_and_written_at_any_place(board, node):
    with node.repl() as stopped:
        stopped.flash.erase("spool")
        data = bytes(range(256)) * 40
        stopped.flash.write("spool", bytes(7 * SECTOR))
        stopped.flash.write("spool", data, 3 * SECTOR - 100)
        stopped.flash.write("spool", b"in the middle", 3 * SECTOR + 10)
        stopped.flash.write("spool", b"")
        expected = bytearray(bytes(7 * SECTOR).ljust(0x80000, b"\xff"))
        expected[3 * SECTOR - 100 : 3 * SECTOR - 100 + len(data)] = data
        expected[3 * SECTOR + 10 : 3 * SECTOR + 23] = b"in the middle"
        assert flash_of(board, "spool") == expected
        assert stopped.flash.read("spool", SECTOR, 5 * SECTOR) == expected[SECTOR : 6 * SECTOR]
        assert stopped.flash.read("spool", 3 * SECTOR - 101, 3) == b"\x00\x00\x01"
        for offset, size in ((0x80000 - 1, 2), (-1, 1)):
            with pytest.raises(UsageError, match=r"^Partition 'spool' has 524288 bytes, and"):
                stopped.flash.read("spool", offset, size)
        stopped.flash.erase("spool")
        assert flash_of(board, "spool") == b"\xff" * 0x80000


def test_outside_of_the_repl_each_call_stops_and_starts_it(board, node):
    boots = board.virtual.boots
    assert len(node.flash.read("identity")) == 0x4000
    assert board.virtual.boots > boots
    node.says(STARTED)


def test_its_port_is_lent(node):
    with node.port_free() as port, Repl(port) as program:
        assert program.ask("1 + 1") == 2
    assert node.answers() == "n01"


def test_code_that_does_not_come_back_is_typed(board, node):
    boots = board.virtual.boots
    node.enter("""
import machine
print("good", "night")
for i in range(2):
    print("sheep", i)

machine.deepsleep(50)
""")
    node.says("good night\nsheep 0\nsheep 1\n")
    wait_until(lambda: board.virtual.boots == boots + 1, "the board waking up")
    node.says("DEEPSLEEP_RESET")
