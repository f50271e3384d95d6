"""Rig files for what is plugged in: load_rig takes them as they are, and with everything filled in."""

import re

import pytest

from host_tools.devices.identify import Found, look
from host_tools.devices.port import Port
from host_tools.devices.probe import Chip
from host_tools.devices.questions import What
from host_tools.errors import LimpetError, RefusedError
from host_tools.hil.rigs import RigFile, known_rigs, load_rig, sound_rigs
from host_tools.hil.rigs.port import PortChoice
from host_tools.hil.rigs.power import UhubctlPower
from host_tools.hil.rigs.suggest import Suggestion, suggest, suggestions
from tests.host.virtual_rig import boards_on_bench

SILENT = What("silent", "silent: it sleeps")
CP210X = (0x10C4, 0xEA60)
OWN_USB = (0x303A, 0x1001)
NAMELESS = (
    "has neither a USB socket nor a URL by which a rig file could name it: "
    "with --probe the board tells its MAC."
)


def found(
    name: str = "/dev/ttyUSB0",
    location: str | None = "1-2.3",
    ids: tuple[int, int] = CP210X,
    what: What = SILENT,
    chip: str | None = None,
) -> Found:
    probed = Chip(chip, "24:0a:c4:00:00:01", 0x400000, False, False) if chip else None
    return Found(Port(name, location, *ids), what, probed)


def loaded(suggestion: Suggestion, tmp_path) -> RigFile:
    return load_rig(str(suggestion.write(tmp_path)))


def filled_in(text: str) -> str:
    """Every commented key and table without its '#', as a user leaves it who has all of that."""
    return re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)


def test_a_suggestion_loads_as_it_is_and_filled_in(tmp_path):
    suggestion = suggest(found(what=What("node", "limpet 0.1.0, node n07", "0.1.0", "n07")))
    bare = loaded(suggestion, tmp_path)
    assert (bare.name, bare.rung, bare.board.name) == ("esp32_generic", "bench", "esp32_generic")
    assert bare.port == PortChoice(usb="1-2.3")
    assert suggestion.text.startswith("# /dev/ttyUSB0: limpet 0.1.0, node n07.\n")
    whole = loaded(Suggestion("whole", filled_in(suggestion.text)), tmp_path)
    assert whole.power == UhubctlPower(location="1-2", port=3)
    assert whole.host and whole.wifi and whole.sensors
    assert set(whole.stimulus) == {"bme280/temperature"}


def test_a_socket_at_the_machine_itself_is_a_port_of_its_root_hub(tmp_path):
    text = filled_in(suggest(found(location="3-4:1.0")).text)
    whole = loaded(Suggestion("whole", text), tmp_path)
    assert whole.port == PortChoice(usb="3-4:1.0")
    assert whole.power == UhubctlPower(location="3", port=4)


@pytest.mark.parametrize(
    ("each", "board", "is_guess"),
    [
        (found(chip="ESP32-S3"), "esp32s3_generic", False),
        (found(chip="ESP32"), "esp32_generic", False),
        (
            found(what=What("micropython", "MicroPython v1.27.0 at its prompt, X module with ESP32C6")),
            "esp32c6_generic",
            False,
        ),
        (found(what=What("rom", "ROM bootloader of an ESP32-C3")), "esp32c3_generic", False),
        (found(), "esp32_generic", True),
        (found(ids=OWN_USB), "esp32s3_generic", True),
    ],
)
def test_the_board_is_the_usual_one_of_its_chip(each, board, is_guess):
    text = suggest(each).text
    assert f'board = "{board}"\n' in text
    assert ("A guess" in text) == is_guess


def test_other_boards_with_the_chip_are_named():
    assert "# The same chip is on: esp32s3_devkitc.\n" in suggest(found(chip="ESP32-S3")).text
    assert "# The same chip is on: no other board.\n" in suggest(found(chip="ESP32-C6")).text


def test_what_a_board_says_stays_in_its_comment(tmp_path):
    evil = What("talks", 'talks\nboard = "virtual"\r$port \x1b[2J')
    rig = loaded(suggest(found(what=evil)), tmp_path)
    assert rig.board.name == "esp32_generic"
    assert "\x1b" not in rig.path.read_text()


@pytest.mark.parametrize(
    ("each", "sentence"),
    [
        (
            found(what=What("closed", "cannot be opened: you may not; sudo usermod …")),
            "/dev/ttyUSB0: cannot be opened: you may not; sudo usermod …",
        ),
        (
            found(chip="ESP32-S2"),
            "/dev/ttyUSB0: limpet has no board with this chip (ESP32-S2): describe yours in boards/ "
            "(docs/boards.md).",
        ),
        (
            found("/dev/ttyS0", None),
            f"/dev/ttyS0 {NAMELESS}",
        ),
        (
            found("spy:///dev/ttyS0", None),
            f"spy:///dev/ttyS0 {NAMELESS}",
        ),
    ],
)
def test_what_cannot_be_a_rig_is_told_in_a_sentence(each, sentence):
    with pytest.raises(LimpetError) as caught:
        suggest(each)
    assert str(caught.value) == sentence
    made, why_not = suggestions([each, found()])
    assert [suggestion.name for suggestion in made] == ["esp32_generic"]
    assert why_not == [sentence]


def test_each_board_gets_a_name_of_its_own(tmp_path):
    made, _ = suggestions([found(location=f"1-{n}") for n in (1, 2, 3)], taken=["esp32_generic-2"])
    assert [each.name for each in made] == ["esp32_generic", "esp32_generic-3", "esp32_generic-4"]


@pytest.mark.parametrize(
    ("port", "each"),
    [
        ('{ usb = "1-2.3" }', found()),
        ('{ usb = "1-2.3" }', found(location="1-2.3:1.0")),
        ('{ mac = "24:0a:c4:00:00:01" }', found(chip="ESP32")),
        ('{ url = "rfc2217://lab:4000" }', found("rfc2217://lab:4000", None)),
    ],
)
def test_a_board_that_is_of_a_rig_gets_no_second_one(tmp_path, port, each):
    (tmp_path / "desk.toml").write_text(f'rung = "bench"\nboard = "esp32_generic"\nport = {port}\n')
    (tmp_path / "broken.toml").write_text("rung =")
    made, [why_not] = suggestions([each, found(location="1-9")], known_rigs(tmp_path), sound_rigs(tmp_path))
    assert [suggestion.name for suggestion in made] == ["esp32_generic"]
    assert why_not == (f"{each.port.name}: it is the board of the rig 'desk', in {tmp_path / 'desk.toml'}.")


def test_a_file_that_is_there_stays_as_it_is(tmp_path):
    path = tmp_path / "rigs" / "esp32_generic.toml"
    assert suggest(found()).write(tmp_path / "rigs") == path
    path.write_text("mine")
    with pytest.raises(RefusedError, match="is there already, and stays as it is"):
        suggest(found()).write(tmp_path / "rigs")
    assert path.read_text() == "mine"
    for folder in (path, path / "sub"):
        with pytest.raises(
            LimpetError, match=r"^The folder .* cannot be made: (File exists|Not a directory)\.$"
        ):
            suggest(found()).write(folder)


def test_a_probed_board_is_found_again_by_its_url_or_its_mac(tmp_path):
    with boards_on_bench() as [board]:
        [suggestion], why_not = suggestions(look([Port(board.url, named=True)], reset=True))
    assert why_not == []
    rig = loaded(suggestion, tmp_path)
    assert rig.port == PortChoice(url=board.url)
    assert f'port = {{ mac = "{board.mac}" }}' in suggestion.text
    assert "A guess" not in suggestion.text
