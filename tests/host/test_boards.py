"""Board files: the ones that come with limpet, and every way to get one wrong."""

import hashlib
import random
import re
from pathlib import Path

import pytest

from host_tools import partitions, paths
from host_tools.boards import CHIPS, UnknownBoard, known_boards, load_board
from host_tools.boards.rules import STOCK
from host_tools.userfile import UserFileError
from tests.host.official import official

SHA = "aa4be80ec695911ba0f13f7558e559ce540f90efbf40c23b853ca49162136b9f"
GOOD = f"""\
name = "bench"
title = "A bench board"
chip = "esp32"
flash_size = 0x800000
capabilities = ["wifi"]
pins = [0, 1, 3, 4, 21, 22, 34]
partition = [
    {{ name = "nvs", type = "data", subtype = "nvs", offset = 0x9000, size = 0x6000 }},
    {{ name = "phy_init", type = "data", subtype = "phy", offset = 0xf000, size = 0x1000 }},
    {{ name = "factory", type = "app", subtype = "factory", offset = 0x10000, size = 0x1f0000 }},
    {{ name = "identity", type = "data", subtype = 0x40, offset = 0x200000, size = 0x4000 }},
    {{ name = "spool", type = "data", subtype = 0x41, offset = 0x204000, size = 0x80000 }},
    {{ name = "vfs", type = "data", subtype = "fat", offset = 0x284000, size = 0x100000 }},
    {{ name = "own", type = 0x42, subtype = 7, offset = 0x384000, size = 0x7c000 }},
]
[console]
kind = "uart"
pins = [1, 3]
[micropython]
version = "1.27.0"
name = "ESP32_GENERIC-20251209-v1.27.0.bin"
sha256 = "{SHA}"
offset = 0x1000
[i2c]
scl = 22
sda = 21
[spi]
sck = 4
mosi = 0
miso = 34
[names]
D0 = 4
led = 2
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(text: str):
    Path("bench.toml").write_text(text)
    return load_board("bench.toml")


def test_there_is_a_board_for_each_chip_and_popular_ones():
    assert {"esp32_devkitc", "lolin_d32", "m5stack_atom", "olimex_esp32_poe", "virtual"} <= {*known_boards()}
    assert {load_board(f"{chip}_generic").chip for chip in CHIPS} == {*CHIPS}


@pytest.mark.parametrize("name", known_boards())
def test_boards_that_come_with_limpet(name):
    board = load_board(name)
    assert board.name == name
    assert board.gpios() <= CHIPS[board.chip].gpios
    table = board.partition_table()
    assert partitions.decode(partitions.encode(table)) == table
    for needed in ("nvs", "factory", "identity", "spool", "vfs"):
        partitions.find(table, needed)
    assert table[-1].end == board.flash_size, "no flash is wasted"
    assert (board.micropython is None) == (name == "virtual")
    # A node's identity and spool are where they are on every other board.
    assert table[:5] == load_board("virtual").partition_table()[:5]


@pytest.mark.parametrize("name", [each for each in known_boards() if each != "virtual"])
def test_a_board_says_where_its_pins_come_from(name):
    head = (paths.BOARDS / f"{name}.toml").read_text().partition("\nname =")[0]
    assert "# Sources: " in head


@pytest.mark.parametrize("name", known_boards())
def test_names_agree_with_the_buses(name):
    board = load_board(name)
    if board.i2c:
        assert {"SCL": board.i2c.scl, "SDA": board.i2c.sda}.items() >= {
            (key, gpio) for key, gpio in board.names.items() if key in ("SCL", "SDA")
        }
    if board.console_kind == "uart" and "TX" in board.names:
        assert (board.names["TX"], board.names["RX"]) == board.console_pins


@pytest.mark.parametrize("chip", CHIPS)
def test_the_official_images_are_what_the_boards_say(chip):
    """Their digest, their chip, and the partitions that a board must leave in place."""
    board = load_board(f"{chip}_generic")
    assert board.micropython
    data = official(chip).read_bytes()
    assert hashlib.sha256(data).hexdigest() == board.micropython.sha256
    assert int.from_bytes(data[12:14], "little") == board.features.image_chip_id
    table = data[partitions.TABLE_OFFSET - board.micropython.offset :]
    assert partitions.decode(table) == STOCK


def test_boards_of_a_chip_trust_the_same_image():
    boards = [each for each in map(load_board, known_boards()) if each.micropython]
    for chip in CHIPS:
        assert len({each.micropython for each in boards if each.chip == chip}) == 1


# What esptool knows of the chips, as an independent witness.
@pytest.mark.parametrize("chip", CHIPS)
def test_chips_as_esptool_knows_them(chip):
    from esptool.targets import CHIP_DEFS

    theirs, ours = CHIP_DEFS[chip], CHIPS[chip]
    assert ours.esptool_name == theirs.CHIP_NAME
    assert ours.image_chip_id == theirs.IMAGE_CHIP_ID
    assert ours.bootloader_offset == theirs.BOOTLOADER_FLASH_OFFSET


@pytest.mark.parametrize("chip", CHIPS)
def test_the_pins_of_a_chip_contradict_nobody(chip):
    chip = CHIPS[chip]
    for some in (chip.flash, chip.input_only, chip.adc, chip.adc_without_wifi, chip.strapping, chip.usb):
        assert some <= chip.gpios
    assert not chip.adc & chip.adc_without_wifi
    assert not chip.flash & (chip.strapping | chip.usb | chip.adc)
    assert len(chip.usb) in (0, 2)


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
    assert (board.spi.sck, board.spi.mosi, board.spi.miso) == (4, 0, 34)
    assert (board.console_kind, board.console_pins) == ("uart", (1, 3))
    assert board.names == {"D0": 4, "led": 2}
    assert (board.called(4), board.called(21), board.label(4), board.label(21)) == (
        "GPIO 4 (D0)",
        "GPIO 21",
        "4 (D0)",
        "21",
    )
    image = board.micropython
    assert (image.version, image.sha256, image.offset) == ("1.27.0", SHA, 0x1000)
    assert board.partition_table()[6] == partitions.Partition("own", 0x42, 7, 0x384000, 0x7C000)


def test_what_a_board_may_leave_out():
    text = re.sub(r"\[micropython\][^[]*|\[i2c\][^[]*|\[spi\][^[]*|\[names\].*", "", GOOD, flags=re.DOTALL)
    board = load(text.replace('capabilities = ["wifi"]\n', ""))
    assert (board.micropython, board.i2c, board.spi, board.names, board.capabilities) == (
        None,
        None,
        None,
        {},
        [],
    )


def test_partitions_as_tables_of_their_own():
    """The longer way to write the same."""
    [inline] = re.finditer(r"partition = \[\n(.*?)\n\]\n", GOOD, re.DOTALL)
    tables = re.sub(
        r"    \{ (.*) \},", lambda each: "[[partition]]\n" + each[1].replace(", ", "\n"), inline[1]
    )
    text = GOOD.replace(inline[0], "") + tables + "\n"
    assert text.count("[[partition]]") == 7
    assert load(text) == load(GOOD)


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
    # keys and values
    "unknown key": (
        "flash_size = 0x8",
        "flash_sise = 0x8",
        ["4: flash_sise: unknown key. Did you mean 'flash_size'?"],
    ),
    "missing key": (
        'subtype = "nvs", ',
        "",
        ["8: partition[0].subtype: this key is missing. Write a name or a number up to 255."],
    ),
    "another chip": (
        '"esp32"',
        '"esp32c33"',
        ["3: chip: limpet does not know the chip \"esp32c33\". Did you mean 'esp32c3'?"],
    ),
    "a chip that is no text": (
        '"esp32"',
        "32",
        ["3: chip: expected the name of a chip in quotes, found 32."],
    ),
    "odd flash size": (
        "flash_size = 0x800000",
        "flash_size = 0x780800",
        [
            "4: flash_size: expected bytes of flash: 0x400000, 0x800000 or 0x1000000 (4, 8 or 16 MiB), "
            "found 7866368."
        ],
    ),
    "name unlike the file": (
        '"bench"',
        '"bank"',
        ['1: name: expected "bench" like its file, found "bank".'],
    ),
    "unknown capability": (
        '["wifi"]',
        '["wifi", "blutooth"]',
        ["5: capabilities[1]: unknown capability \"blutooth\". Did you mean 'bluetooth'?"],
    ),
    # pins
    "no such GPIO": (
        "pins = [0, 1,",
        "pins = [0, 20, 1,",
        ["6: pins[1]: the ESP32 has no GPIO 20. Take it out."],
    ),
    "GPIO of the flash": (
        "pins = [0, 1,",
        "pins = [0, 6, 1,",
        ["6: pins[1]: GPIO 6 is wired to the flash chip. Take it out."],
    ),
    "GPIO twice": (
        "pins = [0, 1,",
        "pins = [0, 0, 1,",
        ["6: pins: a GPIO stands in the list twice. Keep it once."],
    ),
    "a name for no GPIO": (
        "led = 2",
        "led = 24",
        ["33: names.led: the ESP32 has no GPIO 24. Name another, or take the name out."],
    ),
    "a name for a GPIO of the flash": (
        "led = 2",
        "led = 11",
        ["33: names.led: GPIO 11 is wired to the flash chip. Name another, or take the name out."],
    ),
    "a name for a text": (
        "led = 2",
        'led = "2"',
        ['33: names.led: expected a GPIO number, found "2".'],
    ),
    "a name that is none": (
        "led = 2",
        '"2nd led" = 2',
        [
            "31: names: \"2nd led\" cannot be the name of a pin. Use up to 16 letters, digits, '_', '+' and "
            "'-', and begin with a letter."
        ],
    ),
    # console and buses
    "no console": (
        '[console]\nkind = "uart"\npins = [1, 3]\n',
        "",
        ["1: console: this key is missing. Write a table [console] with kind and pins."],
    ),
    "unknown console": (
        '"uart"',
        '"usb"',
        [
            '17: console.kind: expected "uart" (a USB bridge with the classic DTR/RTS circuit) or '
            '"usb-serial-jtag", found "usb".'
        ],
    ),
    "a USB port on a chip without one": (
        '"uart"',
        '"usb-serial-jtag"',
        ['17: console.kind: the ESP32 has no USB port of its own. Write kind = "uart".'],
    ),
    "console on no GPIO": (
        "pins = [1, 3]",
        "pins = [1, 30]",
        ["18: console.pins[1]: the ESP32 has no GPIO 30. Use another."],
    ),
    "I2C on an input": (
        "scl = 22",
        "scl = 34",
        ["25: i2c.scl: GPIO 34 of this board cannot be an output. Use another."],
    ),
    "I2C on a pin that is not brought out": (
        "sda = 21",
        "sda = 23",
        ["26: i2c.sda: GPIO 23 of this board cannot be an output. Use another."],
    ),
    "I2C on the console": (
        "scl = 22",
        "scl = 3",
        ["25: i2c.scl: GPIO 3 of this board cannot be an output. Use another."],
    ),
    "SPI from a pin that is not brought out": (
        "miso = 34",
        "miso = 35",
        ["30: spi.miso: GPIO 35 of this board cannot be an input. Use another."],
    ),
    # the image
    "SHA-256 cut short": (
        SHA,
        SHA[:-1],
        [
            "22: micropython.sha256: a SHA-256 has 64 hex digits, and this text has 63 characters. Copy it "
            "again, from `sha256sum FILE` of an image that you trust."
        ],
    ),
    "SHA-256 with a letter too far": (
        SHA,
        SHA[:-1] + "g",
        ["22: micropython.sha256: a SHA-256 has hex digits only, and this text has others. Copy it again."],
    ),
    "SHA-256 as a number": (
        f'"{SHA}"',
        "0xaa4be80ec695",
        ["22: micropython.sha256: expected 64 hex digits in quotes, found 187242992551573."],
    ),
    "an image's name with a folder": (
        '"ESP32_GENERIC-',
        '"../ESP32_GENERIC-',
        [
            "21: micropython.name: expected the name of the file on the download page, such as "
            '"ESP32_GENERIC-20251209-v1.27.0.bin", found "../ESP32_GENERIC-20251209-v1.27.0.bin".'
        ],
    ),
    "an image elsewhere": (
        "offset = 0x1000\n",
        "offset = 0\n",
        [
            "23: micropython.offset: the ROM of the ESP32 looks for the image at 0x1000, not at 0x0. "
            "Write that."
        ],
    ),
    # one partition
    "unknown subtype": (
        'subtype = "nvs"',
        'subtype = "nvx"',
        ["8: partition[0].subtype: there is no subtype \"nvx\" of this type. Did you mean 'nvs'?"],
    ),
    "unknown type": (
        'type = "app"',
        'type = "application"',
        ['10: partition[2].type: expected "app", "data" or a number up to 255, found "application".'],
    ),
    "name for a subtype of an own type": (
        "subtype = 7",
        'subtype = "nvs"',
        [
            '14: partition[6].subtype: only "app" and "data" have subtypes with names. '
            "Write a number from 0 to 255."
        ],
    ),
    "bool for a number": (
        "subtype = 7",
        "subtype = true",
        ["14: partition[6].subtype: expected a name or a number up to 255, found true."],
    ),
    "name too long": (
        '"own"',
        '"sixteen_letters_"',
        [
            "14: partition[6].name: expected a name of 1 to 15 letters, digits and _, "
            'found "sixteen_letters_".'
        ],
    ),
    "name twice": (
        '"own"',
        '"spool"',
        ['14: partition[6].name: there are two partitions "spool". Rename one.'],
    ),
    "empty partition": (
        "0x7c000",
        "0",
        ["14: partition[6].size: expected a number of bytes above 0, found 0."],
    ),
    # its place
    "overlap": (
        "size = 0x100000 }",
        "size = 0x101000 }",
        [
            '14: partition[6].offset: "own" begins at 0x384000, inside "vfs", which ends at 0x385000. '
            "Move one of them."
        ],
    ),
    "overlap beyond the next": (
        "size = 0x80000 }",
        "size = 0x184000 }",
        [
            '13: partition[5].offset: "vfs" begins at 0x284000, inside "spool", which ends at 0x388000. '
            "Move one of them.",
            '14: partition[6].offset: "own" begins at 0x384000, inside "spool", which ends at 0x388000. '
            "Move one of them.",
        ],
    ),
    "on the partition table": (
        "offset = 0x384000",
        "offset = 0x8000",
        [
            '8: partition[0].offset: "nvs" begins at 0x9000, inside "own", which ends at 0x84000. '
            "Move one of them.",
            '9: partition[1].offset: "phy_init" begins at 0xf000, inside "own", which ends at 0x84000. '
            "Move one of them.",
            '10: partition[2].offset: "factory" begins at 0x10000, inside "own", which ends at 0x84000. '
            "Move one of them.",
            "14: partition[6].offset: 0x8000 lies on the bootloader or the partition table. "
            "Begin at 0x9000 or above.",
        ],
    ),
    "data off its sector": (
        "offset = 0x384000, size = 0x7c000",
        "offset = 0x384800, size = 0x7b000",
        ["14: partition[6].offset: 0x384800 is not a multiple of 0x1000. The next one is 0x385000."],
    ),
    "app off its page": (
        "type = 0x42, subtype = 7, offset = 0x384000, size = 0x7c000",
        'type = "app", subtype = "test", offset = 0x388000, size = 0x70000',
        ["14: partition[6].offset: 0x388000 is not a multiple of 0x10000. The next one is 0x390000."],
    ),
    "odd size": (
        "0x7c000",
        "0x7bf00",
        ["14: partition[6].size: 0x7bf00 is not a multiple of 0x1000. The next one is 0x7c000."],
    ),
    "beyond the flash": (
        "0x7c000",
        "0x47d000",
        [
            "14: partition[6].size: the partition ends at 0x801000, beyond the flash of 0x800000 bytes. "
            "Make it smaller."
        ],
    ),
    # MicroPython's partitions, and ours
    "NVS moved": (
        "0x9000, size = 0x6000",
        "0xa000, size = 0x5000",
        [
            '8: partition[0].offset: "nvs" is one of MicroPython\'s own partitions, and its offset is '
            "0x9000, not 0xa000. Leave it as it is.",
            '8: partition[0].size: "nvs" is one of MicroPython\'s own partitions, and its size is 0x6000, '
            "not 0x5000. Leave it as it is.",
        ],
    ),
    "factory as an OTA slot": (
        'subtype = "factory"',
        'subtype = "ota_0"',
        [
            '10: partition[2].subtype: "factory" is one of MicroPython\'s own partitions, of the kind app '
            "factory, not app ota_0. Leave it as it is."
        ],
    ),
    "phy_init left out": (
        '    { name = "phy_init", type = "data", subtype = "phy", offset = 0xf000, size = 0x1000 },\n',
        "",
        [
            '7: partition: there is no partition "phy_init", which is one of MicroPython\'s own. Add '
            '{ name = "phy_init", type = "data", subtype = "phy", offset = 0xf000, size = 0x1000 }.'
        ],
    ),
    "no identity": (
        '"identity"',
        '"id"',
        [
            '7: partition: there is no partition "identity", which keeps the node\'s keys. Add '
            '{ name = "identity", type = "data", subtype = 0x40, offset = 0x200000, size = 0x4000 }.'
        ],
    ),
    "no spool": (
        '"spool"',
        '"pool"',
        [
            '7: partition: there is no partition "spool", which keeps the readings until a broker has them. '
            'Add { name = "spool", type = "data", subtype = 0x41, offset = 0x204000, size = 0x3000 }.'
        ],
    ),
    "no vfs": (
        '"vfs"',
        '"files"',
        [
            '7: partition: there is no partition "vfs", which holds the firmware and the settings. Add '
            '{ name = "vfs", type = "data", subtype = "fat", offset = 0x284000, size = 0x40000 }.'
        ],
    ),
    "an identity for one slot": (
        "size = 0x4000 }",
        "size = 0x2000 }",
        [
            '11: partition[3].size: "identity" keeps the node\'s keys, and 0x2000 bytes are too few for '
            "that. Give it 0x4000 or more."
        ],
    ),
    "a spool of two sectors": (
        "size = 0x80000 }",
        "size = 0x2000 }",
        [
            '12: partition[4].size: "spool" keeps the readings until a broker has them, and 0x2000 bytes are '
            "too few for that. Give it 0x3000 or more."
        ],
    ),
    "a spool that the node does not find": (
        'name = "spool", type = "data"',
        'name = "spool", type = 0x40',
        [
            '12: partition[4].type: "spool" keeps the readings until a broker has them, and the node finds '
            'it only as one of type "data". Write that.'
        ],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(mistake):
    old, new, expected = MISTAKES[mistake]
    assert GOOD.count(old) == 1, "the mistake must be made in one place"
    with pytest.raises(UserFileError) as caught:
        load(GOOD.replace(old, new))
    assert str(caught.value).splitlines() == [f"bench.toml:{line}" for line in expected]


def test_the_usb_port_is_on_the_chips_own_pins():
    c3 = (paths.BOARDS / "xiao_esp32c3.toml").read_text().replace("xiao_esp32c3", "bench")
    for wrong in ("[18]", "[19, 20]", "[]"):
        with pytest.raises(UserFileError) as caught:
            load(c3.replace("pins = [18, 19]", f"pins = {wrong}"))
        assert re.fullmatch(
            r"bench\.toml:\d+: console\.pins: the USB port of the ESP32-C3 is on other pins\. "
            r"Write pins = \[18, 19\]\.",
            str(caught.value),
        )
    assert load(c3.replace("pins = [18, 19]", "pins = [19, 18]")).console_pins == (19, 18)


def test_all_that_is_wrong_is_told_at_once():
    text = GOOD.replace("pins = [0, 1,", "pins = [20, 1,").replace("0x7c000", "0x7bf00")
    with pytest.raises(UserFileError) as caught:
        load(text.replace("led = 2", "led = 6"))
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["6", "14", "29", "33"]


def test_a_board_without_partitions():
    with pytest.raises(UserFileError) as caught:
        load(re.sub(r"partition = \[\n.*?\n\]\n", "", GOOD, flags=re.DOTALL))
    assert str(caught.value) == (
        "bench.toml:1: partition: this key is missing. Write a list of partitions, each "
        "{ name, type, subtype, offset, size }."
    )


_VALUES = """
    0 -1 2 0x9000 0x1000 0x7fffffffffffffff 1e400 nan true 1979-05-27 [] [1] [[]] {} {a=1} "" "x" "nvs"
    "esp32c3" "esp32s3" "uart" "usb-serial-jtag" [18,19] "\\u0000" [[0]] [{}] name pins partition
"""
VALUES = _VALUES.split()


def test_whatever_is_done_to_a_board_file():
    """It is loaded or refused in sentences that name their line; nothing else happens."""
    chance = random.Random(4)
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(500):
        text = GOOD
        for _ in range(chance.choice([1, 1, 3])):
            places = list(re.finditer(r"[^\s=,{}]+(?= =)|(?<== )[^,}\n]+|^.*\n", text, re.MULTILINE))
            place = chance.choice(places)
            other = chance.choice([*VALUES, "", chance.choice(places)[0]])
            text = text[: place.start()] + other + text[place.end() :]
        outcomes[outcome(text)] += 1
    # The changes would test nothing if all of them had the same end.
    assert min(outcomes.values()) >= 5


def outcome(text: str) -> str:
    try:
        load(text)
    except UserFileError as error:
        for line in str(error).splitlines():
            assert re.fullmatch(r"bench\.toml(:[1-9]\d*)?: .+[.?]", line), line
            assert "pydantic" not in line
        return "refused"
    return "loaded"
