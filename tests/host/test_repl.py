"""The raw REPL of virtual boards, below `limpet deploy` and `limpet spool dump`."""

import zlib
from collections.abc import Iterator

import pytest

from host_tools import image
from host_tools.errors import NoDeviceError
from host_tools.repl import BoardError, Repl, envelope
from host_tools.repl.errors import Damaged
from tests.host.virtual_rig import Rig, boards_on_bench, compose

SETUP = """
def twice(x):
    return x, x

def size(stream):
    return len(stream.read())
"""
MAIN = b"import time\nprint('main runs')\nwhile True: time.sleep_ms(20)\n"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with boards_on_bench(flash=compose({"main.py": MAIN})) as (rig,):
        rig.says("main runs")
        yield rig


def test_values_come_back_as_they_are_and_the_board_restarts(rig: Rig) -> None:
    seen = len(rig.log)
    with Repl(rig.url, SETUP) as repl:
        value = ("ä\n<1 2>", -5, None, {"a": [1.5, True]}, b"\x00\xff\x04")
        assert repl.ask(f"twice({value!r})") == (value, value)
        assert repl.run("print('plain')\nfor n in range(2):\n    if n:\n        print(n)") == "plain\r\n1\r\n"
        assert repl.give("size", lambda room: bytes(1000)) == 1000
    rig.says("main runs", seen)


def test_a_board_that_is_in_the_raw_repl_already(rig: Rig) -> None:
    """As one whose host was killed."""
    with rig.raw_repl() as board:
        board.exec_raw_no_follow("while True: pass")
        board.in_raw_repl = False
    with Repl(rig.port) as repl:
        assert repl.ask("6 * 7") == 42


def test_an_exception_of_the_board(rig: Rig) -> None:
    seen = len(rig.log)
    with pytest.raises(BoardError) as caught, Repl(rig.url) as repl:
        repl.ask("open('nothing')")
    assert (caught.value.errno, caught.value.exit_code) == (2, 1)
    rig.says("main runs", seen)
    with pytest.raises(BoardError) as caught, Repl(rig.url, "import no_such_thing\n") as repl:
        repl.ask("1")
    assert caught.value.last_line == "ImportError: no module named 'no_such_thing'"


def test_what_the_board_forgot_is_said_again(rig: Rig) -> None:
    """A board that restarts by itself, as by its watchdog."""
    with Repl(rig.url, "seven = 7\n") as repl:
        assert repl.ask("seven") == 7
        seen = len(rig.log)
        rig.power_off()
        rig.power_on()
        rig.says("main runs", seen)
        assert repl.ask("seven + 1") == 8


def test_a_node_that_was_stopped_gives_its_memory_back(rig: Rig) -> None:
    with boards_on_bench(flash=compose(image.firmware_files())) as (node,):
        node.says("node: limpet")
        with Repl(node.url) as repl:
            assert repl.ask("[name for name in sys.modules if name.startswith('limpet')]") == []
            assert repl.ask("'node' in globals()") is False
            freed = repl.ask("gc.mem_free()")
            repl.run("from limpet import node, uplink, spool")
            assert repl.ask("(gc.collect(), gc.mem_free())[1]") < freed - 20_000


def test_a_port_is_for_one_at_a_time(rig: Rig) -> None:
    with Repl(rig.url), pytest.raises(NoDeviceError) as caught:
        Repl(rig.url)
    assert "another program" in str(caught.value)


@pytest.mark.parametrize("around", ["{}", "chatter\r\n{}", "{}more\r\n<12 (1,)>\r\n", "<1 2>\r\n{}"])
def test_an_answer_among_other_words(around: str) -> None:
    line = f"<{zlib.crc32(b'(1, 2)')} (1, 2)>\r\n"
    assert envelope.answer(around.replace("{}", line)) == (1, 2)


@pytest.mark.parametrize("damage", [("1,", "7,"), (">", ""), ("<", ""), ("(", "((")])
def test_a_damaged_answer_is_none(damage: tuple[str, str]) -> None:
    line = f"\n<{zlib.crc32(b'(1, 2)')} (1, 2)>\n"
    with pytest.raises(Damaged):
        envelope.answer(line.replace(*damage))
