"""`limpet boards` and `limpet boards show`: what people and programs are told of a board."""

import itertools
import json
import re

import pytest
from typer.testing import CliRunner

from host_tools import partitions, paths
from host_tools.boards import known_boards, load_board, show
from host_tools.boards.flash_map import areas, drawing
from host_tools.cli.app import app
from host_tools.userfile import UserFileError
from tests.host import shell
from tests.host.in_process import limpet
from tests.host.shell import refused

MARKS = ("█", "▏", "·")
DEVKITC = """\
esp32_devkitc: Espressif ESP32-DevKitC V4
  chip         ESP32, 4 MiB of flash
  has          wifi, bluetooth
  console      a USB bridge on GPIO 1 and 3; its DTR and RTS reset the chip
  I2C          scl 22 (SCL), sda 21 (SDA)
  MicroPython  1.27.0 at 0x1000: ESP32_GENERIC-20251209-v1.27.0.bin
               SHA-256 aa4be80ec695911ba0f13f7558e559ce
                       540f90efbf40c23b853ca49162136b9f

Flash, in KiB of 4096
from size                                0                                  4096
   0    4  unused                        ▏
   4   28  bootloader                    ▏
  32    4  partition table               ▏
  36   24  nvs              data nvs     ▏
  60    4  phy_init         data phy     ▏
  64 1984  factory          app factory   ███████████████████
2048   16  identity         data 0x40                       ▏
2064  512  spool            data 0x41                        █████
2576 1520  vfs              data fat                              ██████████████

Pins
   0  boot  analog without Wi-Fi, read at start
   1  TX    console
   2        analog without Wi-Fi, read at start
"""


def test_the_list():
    done = limpet("boards")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == known_boards()
    assert "xiao_esp32c3      ESP32-C3  4 MiB  usb-serial-jtag  Seeed Studio XIAO ESP32C3" in lines
    assert max(map(len, lines)) <= 80


def test_the_list_as_json():
    done = limpet("boards", "--json")
    assert (done.code, done.err) == (0, "")
    boards = json.loads(done.out)["boards"]
    assert [each["name"] for each in boards] == known_boards()
    assert boards[known_boards().index("olimex_esp32_poe")] == {
        "name": "olimex_esp32_poe",
        "title": "Olimex ESP32-POE",
        "chip": "esp32",
        "flash_size": 4 << 20,
        "console": {"kind": "uart", "pins": [1, 3]},
        "capabilities": ["wifi", "bluetooth", "ethernet", "battery", "sdcard"],
    }


def test_a_board_on_a_terminal_of_80_columns():
    done = limpet("boards", "show", "esp32_devkitc")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(DEVKITC)


def test_a_board_as_json():
    done = limpet("boards", "show", "xiao_esp32c3", "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert told["console"] == {"kind": "usb-serial-jtag", "pins": [18, 19]}
    assert told["micropython"]["name"] == "ESP32_GENERIC_C3-20251209-v1.27.0.bin"
    assert (told["bootloader_offset"], told["i2c"]) == (0, {"scl": 7, "sda": 6})
    assert told["names"]["D10"] == 10
    assert told["pins"][0] == {"gpio": 2, "roles": ["analog", "read at start"]}
    assert told["partitions"][3] == {
        "name": "identity",
        "type": 1,
        "subtype": 0x40,
        "offset": 0x200000,
        "size": 0x4000,
    }
    assert told["flash"][0] == {"name": "bootloader", "offset": 0, "size": 0x8000, "used": True}
    assert sum(each["size"] for each in told["flash"]) == told["flash_size"]


def test_a_terminal_that_knows_ascii_alone(tmp_path):
    done = shell.limpet("boards", "show", "lolin_d32", PYTHONIOENCODING="ascii", cwd=tmp_path)
    assert done.code == 0
    assert done.out.isascii() and "?" not in done.out
    assert re.search(r"^  64 1984  factory +app factory +#{17,}$", done.out, re.MULTILINE)
    assert re.search(r"^2048   16  identity .*\|$", done.out, re.MULTILINE)


def test_a_file_of_ones_own(tmp_path):
    text = (paths.BOARDS / "lolin_d32.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('"lolin_d32"', '"mine"'))
    done = limpet("boards", "show", "mine.toml", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("mine: LOLIN D32\n")


def test_what_is_refused(tmp_path):
    refused(
        limpet("boards", "show", "lolin_d23"),
        "There is no board 'lolin_d23'. Did you mean 'lolin_d32'?",
        code=2,
    )
    text = (paths.BOARDS / "lolin_d32.toml").read_text()
    (tmp_path / "lolin_d32.toml").write_text(text.replace("scl = 22", "scl = 23\nsdc = 5"))
    line = text[: text.index("scl = 22")].count("\n") + 2
    problem = f"lolin_d32.toml:{line}: i2c.sdc: unknown key. Did you mean 'sda'?"
    done = limpet("boards", "show", "lolin_d32.toml", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (1, "", f"{problem}\n")
    done = limpet("boards", "show", "lolin_d32.toml", "--json", cwd=tmp_path)
    assert json.loads(done.out) == {"error": problem, "exit_code": 1}


def test_a_board_that_is_broken_hides_no_other(tmp_path, monkeypatch):
    for name in ("lolin_d32", "virtual", "xiao_esp32c3"):
        (tmp_path / f"{name}.toml").write_text((paths.BOARDS / f"{name}.toml").read_text())
    (tmp_path / "virtual.toml").write_text("name = 5\n")
    monkeypatch.setattr(paths, "BOARDS", tmp_path)
    done = CliRunner().invoke(app, ["boards"])
    assert [line.split()[0] for line in done.output.splitlines()] == ["lolin_d32", "xiao_esp32c3"]
    assert isinstance(done.exception, UserFileError)
    assert "virtual.toml:1: name: expected" in str(done.exception)
    as_json = CliRunner().invoke(app, ["boards", "--json"])
    assert (as_json.output, isinstance(as_json.exception, UserFileError)) == ("", True)


@pytest.mark.parametrize("name", known_boards())
def test_every_board_fits_a_terminal_of_80_columns(name):
    lines = show.text(load_board(name), 80, MARKS)
    assert max(map(len, lines)) <= 80
    assert not any(character in line for line in lines for character in "\x1b\t")


@pytest.mark.parametrize("name", known_boards())
def test_the_areas_are_the_whole_flash(name):
    board = load_board(name)
    found = areas(board)
    assert found[0].offset == 0
    assert all(left.end == right.offset for left, right in itertools.pairwise(found))
    assert found[-1].end == board.flash_size
    assert {each.name for each in board.partition_table()} <= {each.name for each in found if each.used}
    [table] = [each for each in found if each.name == "partition table"]
    assert (table.offset, table.size) == (partitions.TABLE_OFFSET, partitions.SECTOR)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", ["virtual", "esp32s3_devkitc"])
def test_the_map_is_to_scale(name, width):
    board = load_board(name)
    head, *lines = drawing(board, width, MARKS)
    start = head.index("0")
    column = board.flash_size / (len(head) - start)
    for area, line in zip(areas(board), lines, strict=True):
        bar = line[start:]
        drawn = bar.strip()
        begins = (len(bar) - len(drawn)) * column
        assert abs(begins - area.offset) <= column
        if drawn == "▏":
            assert area.size < column / 2
        else:
            assert set(drawn) == {"█"}
            assert abs(len(drawn) * column - area.size) <= column
            assert abs(begins + len(drawn) * column - area.end) <= column / 2


def test_gaps_are_drawn():
    """What a table leaves out, in the middle and at the end."""
    board = load_board("virtual")
    *others, spool, vfs = board.partition
    shorter = vfs.model_copy(update={"size": vfs.size - 0x100000})
    gapped = board.model_copy(update={"partition": [*others, shorter]})
    assert [(each.offset, each.size) for each in areas(gapped) if not each.used][1:] == [
        (spool.offset, spool.size),
        (0x300000, 0x100000),
    ]
    lines = drawing(gapped, 80, MARKS)
    assert re.fullmatch(r"2064  512  unused +·{4,5}", lines[-3])
    assert re.fullmatch(r"3072 1024  unused +·{9,10}", lines[-1])


MANUAL = (paths.ROOT / "docs" / "boards.md").read_text()


def manual_output(command: str) -> list[str]:
    """What the manual shows a command to print, up to where it leaves off."""
    lines = MANUAL[MANUAL.index(f"    $ {command}\n") :].splitlines()[1:]
    shown = [
        line.removeprefix("    ") for line in itertools.takewhile(lambda line: line[:1] in ("", " "), lines)
    ]
    return shown[: shown.index("…")]


@pytest.mark.parametrize("command", ["limpet boards", "limpet boards show xiao_esp32c3"])
def test_the_manual_shows_what_is_printed(command):
    shown = manual_output(command)
    assert len(shown) >= 3
    assert limpet(*command.split()[1:]).out.splitlines()[: len(shown)] == shown


def test_the_manuals_way_to_add_a_board(tmp_path):
    [example] = re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL)
    (tmp_path / "my_board.toml").write_text(example)
    done = limpet("boards", "show", "my_board.toml", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "   4  PROBE  analog\n" in done.out
    assert "   8  led    on the board, read at start\n" in done.out
    message = re.search(r"^    (my_board\.toml:14: partition.*)$", MANUAL, re.MULTILINE)
    assert message
    (tmp_path / "my_board.toml").write_text(example.replace("0x204000", "0x203000"))
    done = limpet("boards", "show", "my_board.toml", cwd=tmp_path)
    assert (done.code, done.err) == (1, f"{message[1]}\n")
