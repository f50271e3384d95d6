"""The keys `profile` and `way_in` of a node file: what they become, and what is wrong with them."""

from pathlib import Path

import pytest

from host_tools import paths
from host_tools.boards import load_board
from host_tools.errors import LimpetError
from host_tools.settings import check, to_node_json
from host_tools.settings.model import WayIn

REST = """
[[wifi]]
ssid = "plant"
[[broker]]
host = "10.0.0.5"
[sensors.probe]
kind = "ds18b20"
period = 2
pin = {probe}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(profile: str, board: str = "virtual", probe: int = 4) -> Path:
    path = Path("node.toml")
    path.write_text(f'board = "{board}"\n{profile}{REST.format(probe=probe)}')
    return path


def on_the_node(profile: str, board: str = "virtual", probe: int = 4) -> dict[str, object]:
    checked = check(write(profile, board, probe))
    return to_node_json(checked.node_file, load_board(board))


@pytest.mark.parametrize("profile", ["", 'profile = "development"\n'])
def test_development_is_not_told_to_the_node(profile: str) -> None:
    assert not {"profile", "way_in"} & on_the_node(profile).keys()


@pytest.mark.parametrize(
    ("hold", "milliseconds"), [("", 5_000), (', hold = "1s"', 1_000), (', hold = "1min"', 60_000)]
)
def test_production_with_a_way_in(hold: str, milliseconds: int) -> None:
    node = on_the_node(f'profile = "production"\nway_in = {{ pin = 5{hold} }}\n')
    assert (node["profile"], node["way_in"]) == ("production", {"pin": 5, "hold_ms": milliseconds})


def test_a_button_of_the_board_goes_by_its_name() -> None:
    profile = 'profile = "production"\nway_in = { pin = "button" }\n'
    assert on_the_node(profile, "m5stack_atom", 19)["way_in"] == {"pin": 39, "hold_ms": 5_000}


def test_production_without_a_way_in_is_allowed_and_warned_of() -> None:
    checked = check(write('profile = "production"\n'))
    assert "way_in" not in to_node_json(checked.node_file, checked.board)
    assert checked.warnings == (
        "node.toml:2: profile: there is no way_in: once these settings are on the node, nobody gets in again "
        "but by flashing it anew. Declare a button with way_in, or leave it so.",
    )


WARNINGS = {
    "no pull-up": (
        "36",
        "GPIO 36 has no pull-up inside the chip, and a line that floats can look like a button that is held. "
        "See that a resistor pulls it up.",
    ),
    "strapping": (
        "12",
        "GPIO 12 chooses how the chip starts: a sensor or pull-up on it can keep the board from booting. "
        "Another pin is safer.",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_a_pin_that_works_but(case: str) -> None:
    pin, text = WARNINGS[case]
    warnings = check(write(f'profile = "production"\nway_in = {{ pin = {pin} }}\n')).warnings
    assert warnings == (f"node.toml:3: way_in.pin: {text}",)


PRODUCTION = 'profile = "production"\n'
MISTAKES = {
    "another profile": (
        'profile = "prod"\n',
        '2: profile: expected "development" or "production", found "prod".',
    ),
    "a way into an open node": (
        "way_in = { pin = 5 }\n",
        "2: way_in: a node that is not locked needs no way in. "
        'Write profile = "production", or leave this key out.',
    ),
    "a way in without a pin": (
        PRODUCTION + 'way_in = { hold = "5s" }\n',
        "3: way_in.pin: this key is missing. Write a GPIO number.",
    ),
    "no table": (
        PRODUCTION + "way_in = 5\n",
        '3: way_in: expected a table such as { pin = 4, hold = "5s" }, found 5.',
    ),
    "a slip": (
        PRODUCTION + 'way_in = { pin = 5, hald = "5s" }\n',
        "3: way_in.hald: unknown key. Did you mean 'hold'?",
    ),
    "too short": (
        PRODUCTION + 'way_in = { pin = 5, hold = "999ms" }\n',
        '3: way_in.hold: expected a time from 1 s to 60 s, such as "5s", found "999ms".',
    ),
    "too long": (
        PRODUCTION + "way_in = { pin = 5, hold = 61 }\n",
        '3: way_in.hold: expected a time from 1 s to 60 s, such as "5s", found 61.',
    ),
    "the pin of a sensor": (
        PRODUCTION + "way_in = { pin = 4 }\n",
        '3: way_in.pin: GPIO 4 is already a 1-Wire bus of sensor "probe". Use another pin.',
    ),
    "a name that nobody knows": (
        PRODUCTION + 'way_in = { pin = "button" }\n',
        '3: way_in.pin: the board "virtual" has no names for its pins. Write the number of a GPIO.',
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake(case: str) -> None:
    profile, told = MISTAKES[case]
    with pytest.raises(LimpetError) as caught:
        check(write(profile))
    assert str(caught.value) == f"node.toml:{told}"


@pytest.mark.parametrize(
    ("board", "pin", "why"),
    [
        ("virtual", "0", "GPIO 0 held at a reset starts the chip's bootloader, and not the node."),
        (
            "xiao_esp32c3",
            "9",
            "GPIO 9 (D9) held at a reset starts the chip's bootloader, and not the node.",
        ),
        ("virtual", "1", "GPIO 1 is the serial console."),
        ("virtual", "6", "GPIO 6 is wired to the flash chip."),
        ("virtual", "99", 'the board "virtual" has no GPIO 99.'),
    ],
)
def test_a_pin_that_cannot_be_a_way_in(board: str, pin: str, why: str) -> None:
    probe = 3 if board == "xiao_esp32c3" else 4
    with pytest.raises(LimpetError) as caught:
        check(write(f"{PRODUCTION}way_in = {{ pin = {pin} }}\n", board, probe))
    told = str(caught.value)
    assert told.startswith(f"node.toml:3: way_in.pin: {why} Use one of ")
    fit = told.partition("Use one of ")[2].removesuffix(".").split(", ")
    assert "2" in fit or "2 (D0)" in fit
    if board == "virtual":
        assert "34" in fit  # an input is enough
        assert "0" not in fit


def test_every_key_of_the_way_in_is_in_the_manual() -> None:
    manual = (paths.ROOT / "docs" / "node-file.md").read_text()
    assert all(f"`{key}`" in manual for key in WayIn.model_fields)
