"""Whatever is done to a node file, it is loaded or refused in sentences; nothing else happens."""

import random
import re
from pathlib import Path

import pytest

from host_tools.boards import load_board
from host_tools.errors import LimpetError
from host_tools.settings import check, dump, to_node_json

EXAMPLE = Path(__file__).parents[2] / "docs" / "node.example.toml"
SECRET = "an example, not a secret"
ROUNDS = 150

# Without comments, so that most changes hit something.
LINES = [line for line in re.sub(r" *#.*", "", EXAMPLE.read_text()).splitlines() if line]
_VALUES = """
    0 -1 1 4 21 22 34 65536 1e400 -0.0 0.001 1_0 0x76 inf nan true 1979-05-27 07:32:00 [] [1] [0,1] [[]] {}
    {a=1} {ssid="y"} '''z''' "" "1s" "x" "ds18b20" "bme280" "virtual" "a/b" "#" "\\ud7ff" "\\u0000" "🌊"
    "mqtts://a:b@c:d" "xiao_esp32c3" "D1" "SCL"
"""
VALUES = _VALUES.split()
PIECES = [*"[]{}=.\"'#\\\n\r\t ,0a\0é🌊", "[[", "]]", '"""', "\r\n", "sensors.", "\ufeff"]


def other_value(chance: random.Random, lines: list[str]) -> None:
    at = chance.randrange(len(lines))
    key, equals, _ = lines[at].partition("=")
    if equals:
        lines[at] = f"{key}= {chance.choice(VALUES)}"


def other_key(chance: random.Random, lines: list[str]) -> None:
    at = chance.randrange(len(lines))
    _, equals, value = lines[at].partition("=")
    if equals:
        lines[at] = f"{chance.choice(LINES).partition('=')[0].strip('[] ')} = {value}"


def other_header(chance: random.Random, lines: list[str]) -> None:
    headers = [at for at, line in enumerate(lines) if line.startswith("[")]
    if headers:
        lines[chance.choice(headers)] = chance.choice(
            ["[wifi]", "[[sensors]]", "[sensors]", "[sensors.a.b]", "[[sensors.bme280]]", '["sensors"."x y"]']
        )


def remove(chance: random.Random, lines: list[str]) -> None:
    del lines[chance.randrange(len(lines))]


def repeat(chance: random.Random, lines: list[str]) -> None:
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))


def swap(chance: random.Random, lines: list[str]) -> None:
    one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]


def garble(chance: random.Random, lines: list[str]) -> None:
    at = chance.randrange(len(lines))
    cut = chance.randrange(len(lines[at]) + 1)
    lines[at] = lines[at][:cut] + chance.choice(PIECES) + lines[at][cut + chance.randrange(2) :]


CHANGES = [other_value, other_key, other_header, remove, repeat, swap, garble]


@pytest.mark.parametrize("seed", range(8))
def test_changed_files(seed, tmp_path):
    chance = random.Random(seed)
    path = tmp_path / "node.toml"
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(ROUNDS):
        lines = list(LINES)
        for _ in range(chance.choice([1, 1, 1, 3])):
            chance.choice(CHANGES)(chance, lines)
        path.write_bytes("\n".join(lines).encode())
        outcomes[outcome(path)] += 1
    # The changes would test nothing if all of them had the same end.
    assert min(outcomes.values()) >= 5


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes(seed, tmp_path):
    chance = random.Random(seed)
    path = tmp_path / "node.toml"
    for _ in range(ROUNDS):
        data = bytearray(EXAMPLE.read_bytes())
        for _ in range(chance.choice([1, 3, 20])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(bytes(data[: chance.choice([None, chance.randrange(len(data))])]))
        outcome(path)


def outcome(path: Path) -> str:
    try:
        checked = check(path)
    except LimpetError as error:
        for line in str(error).splitlines():
            assert re.fullmatch(rf"{re.escape(str(path))}(:[1-9]\d*)?: .+[.?]", line), line
            number = re.match(r":(\d+)", line[len(str(path)) :])
            assert not number or int(number[1]) <= path.read_bytes().count(b"\n") + 1
        assert SECRET not in str(error)
        assert "pydantic" not in str(error)
        return "refused"
    settings = to_node_json(checked.node_file, load_board(checked.node_file.board))
    assert dump(settings)
    assert {"v", "prefix", "wifi", "brokers", "ntp", "sensors"} <= settings.keys()
    return "loaded"
