"""Board files: the ones that come with limpet, and every way to get one wrong."""

from pathlib import Path

import pytest

from host_tools import partitions
from host_tools.boards import CHIPS, UnknownBoard, known_boards, load_board
from host_tools.userfile import UserFileError

GOOD = """\
name = "bench"
title = "A bench board"
chip = "esp32"
flash_size = 0x200000
pins = [0, 1, 3, 4, 21, 22, 34]
console = [1, 3]
i2c = { scl = 22, sda = 21 }
[[partition]]
name = "nvs"
type = "data"
subtype = "nvs"
offset = 0x9000
size = 0x6000
[[partition]]
name = "factory"
type = "app"
subtype = "factory"
offset = 0x10000
size = 0x100000
[[partition]]
name = "own"
type = 0x40
subtype = 7
offset = 0x110000
size = 0xf0000
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(text: str):
    Path("bench.toml").write_text(text)
    return load_board("bench.toml")


@pytest.mark.parametrize("name", known_boards())
def test_boards_that_come_with_limpet(name):
    board = load_board(name)
    assert board.name == name
    assert board.gpios() <= CHIPS[board.chip].gpios
    table = board.partition_table()
    assert partitions.decode(partitions.encode(table)) == table
    for needed in ("nvs", "factory", "identity", "spool", "vfs"):
        partitions.find(table, needed)


def test_the_virtual_board():
    board = load_board("virtual")
    assert board.flash_size == 4 << 20
    table = board.partition_table()
    assert {each.name: (each.type, each.subtype, each.offset, each.size) for each in table} == {
        "nvs": (1, 0x02, 0x9000, 0x6000),
        "phy_init": (1, 0x01, 0xF000, 0x1000),
        "factory": (0, 0x00, 0x10000, 0x1F0000),
        "identity": (1, 0x40, 0x200000, 0x4000),
        "spool": (1, 0x41, 0x204000, 0x80000),
        "vfs": (1, 0x81, 0x284000, 0x400000 - 0x284000),
    }


def test_a_board_by_its_path():
    board = load(GOOD)
    assert board.title == "A bench board"
    assert board.gpios() == {0, 1, 3, 4, 21, 22, 34}
    assert (board.i2c.scl, board.i2c.sda) == (22, 21)
    assert [each.name for each in board.partition_table()] == ["nvs", "factory", "own"]
    assert board.partition_table()[2] == partitions.Partition("own", 0x40, 7, 0x110000, 0xF0000)


def test_unknown_board():
    with pytest.raises(UnknownBoard) as caught:
        load_board("virtaul")
    assert str(caught.value) == "There is no board 'virtaul'. Did you mean 'virtual'?"
    with pytest.raises(UnknownBoard) as caught:
        load_board("zzz")
    assert str(caught.value) == f"There is no board 'zzz'. Known are: {', '.join(known_boards())}."
    with pytest.raises(UserFileError, match=r"^no/such\.toml: there is no such file\."):
        load_board("no/such.toml")


MISTAKES = {
    "unknown key": (
        "flash_size = 0x",
        "flash_sise = 0x",
        ["4: flash_sise: unknown key. Did you mean 'flash_size'?"],
    ),
    "missing key": (
        'subtype = "nvs"\n',
        "",
        ["8: partition[0].subtype: this key is missing. Write a name or a number up to 255."],
    ),
    "another chip": ('"esp32"', '"esp8266"', ['3: chip: expected one of: esp32, found "esp8266".']),
    "odd flash size": (
        "0x200000",
        "0x280800",
        ["4: flash_size: expected bytes of flash, in whole MiB, found 2623488."],
    ),
    "name unlike the file": (
        '"bench"',
        '"bank"',
        ['1: name: expected "bench" like its file, found "bank".'],
    ),
    "no such GPIO": (
        "pins = [0, 1,",
        "pins = [0, 20, 1,",
        ["5: pins[1]: the esp32 has no GPIO 20. Take it out."],
    ),
    "GPIO of the flash": (
        "pins = [0, 1,",
        "pins = [0, 6, 1,",
        ["5: pins[1]: GPIO 6 is wired to the flash chip. Take it out."],
    ),
    "GPIO twice": (
        "pins = [0, 1,",
        "pins = [0, 0, 1,",
        ["5: pins: a GPIO stands in the list twice. Keep it once."],
    ),
    "console on a pin that is not there": (
        "console = [1, 3]",
        "console = [1, 5]",
        ["6: console[1]: GPIO 5 is not among the board's pins. Add it there."],
    ),
    "I2C on an input": (
        "scl = 22",
        "scl = 34",
        ["7: i2c.scl: GPIO 34 of this board cannot be an output. Use another."],
    ),
    "unknown subtype": (
        '"nvs"\noffset',
        '"nvx"\noffset',
        ["11: partition[0].subtype: there is no subtype \"nvx\" of this type. Did you mean 'nvs'?"],
    ),
    "unknown type": (
        'type = "app"',
        'type = "application"',
        [
            '16: partition[1].type: expected "app", "data" or a number up to 255, found "application".',
        ],
    ),
    "name for a subtype of an own type": (
        "subtype = 7",
        'subtype = "nvs"',
        [
            '23: partition[2].subtype: only "app" and "data" have subtypes with names. '
            "Write a number from 0 to 255."
        ],
    ),
    "bool for a number": (
        "subtype = 7",
        "subtype = true",
        ["23: partition[2].subtype: expected a name or a number up to 255, found true."],
    ),
    "name too long": (
        '"own"',
        '"sixteen_letters_"',
        [
            "21: partition[2].name: expected a name of 1 to 15 letters, digits and _, "
            'found "sixteen_letters_".'
        ],
    ),
    "name twice": ('"own"', '"nvs"', ['21: partition[2].name: there are two partitions "nvs". Rename one.']),
    "overlap": (
        "0x6000",
        "0x8000",
        [
            '18: partition[1].offset: "factory" begins at 0x10000, inside "nvs", which ends at 0x11000. '
            "Move one of them."
        ],
    ),
    "overlap beyond the next": (
        "0x6000",
        "0x108000",
        [
            '18: partition[1].offset: "factory" begins at 0x10000, inside "nvs", which ends at 0x111000. '
            "Move one of them.",
            '24: partition[2].offset: "own" begins at 0x110000, inside "nvs", which ends at 0x111000. '
            "Move one of them.",
        ],
    ),
    "on the partition table": (
        "0x9000",
        "0x8000",
        [
            "12: partition[0].offset: 0x8000 lies on the bootloader or the partition table. "
            "Begin at 0x9000 or above."
        ],
    ),
    "data off its sector": (
        "0x9000",
        "0x9800",
        ["12: partition[0].offset: 0x9800 is not a multiple of 0x1000. The next one is 0xa000."],
    ),
    "app off its page": (
        "offset = 0x10000\nsize = 0x100000",
        "offset = 0x11000\nsize = 0xff000",
        ["18: partition[1].offset: 0x11000 is not a multiple of 0x10000. The next one is 0x20000."],
    ),
    "odd size": (
        "0xf0000",
        "0xeff00",
        ["25: partition[2].size: 0xeff00 is not a multiple of 0x1000. The next one is 0xf0000."],
    ),
    "beyond the flash": (
        "0xf0000",
        "0xf1000",
        [
            "25: partition[2].size: the partition ends at 0x201000, beyond the flash of 0x200000 bytes. "
            "Make it smaller."
        ],
    ),
    "empty partition": (
        "0xf0000",
        "0",
        ["25: partition[2].size: expected a number of bytes above 0, found 0."],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(mistake):
    old, new, expected = MISTAKES[mistake]
    assert GOOD.count(old) == 1, "the mistake must be made in one place"
    with pytest.raises(UserFileError) as caught:
        load(GOOD.replace(old, new))
    assert str(caught.value).splitlines() == [f"bench.toml:{line}" for line in expected]


def test_a_board_without_partitions():
    with pytest.raises(UserFileError) as caught:
        load(GOOD[: GOOD.index("[[partition]]")])
    assert str(caught.value) == (
        "bench.toml:1: partition: this key is missing. Write at least one table [[partition]]."
    )
