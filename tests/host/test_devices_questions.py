"""What is said to a board, and what its answers mean."""

import pytest

from host_tools.devices.questions import (
    EVERYTHING,
    WHO_ARE_YOU,
    Questions,
    What,
    conclude,
    introduced,
    readable,
)

BANNER = (
    b"MicroPython v1.27.0 on 2025-12-09; Generic ESP32S3 module with ESP32S3\r\n"
    b'Type "help()" for more information.\r\n>>> '
)
ROM = b"ESP-ROM:esp32c3-api1-20210207\r\nboot:0x5 (DOWNLOAD(USB/UART0))\r\nwaiting for download\r\n"
BLANK = b"ets Jul 29 2019 12:21:46\r\n\r\nrst:0x10 (RTCWDT_RTC_RESET)\r\ninvalid header: 0xffffffff\r\n" * 3
BROWNOUT = b"Brownout detector was triggered\r\n\r\nets Jul 29 2019 12:21:46\r\n"
WORDS = {"enter": b"\r", "syn": b"\x16", "ctrl_b": b"\x02", "sync": b"\xc0\x00\x08"}
LOG = b"      9.120 uplink: connected to 10.0.0.5\r\n     10.001 clock: synch"


class Board:
    """Answers what it is asked; `talk` is a whole talk with it, in time that nobody waits for."""

    def __init__(self, says: bytes = b"", **answers: bytes) -> None:
        self.says = says
        self.answers = answers
        self.heard = b""
        self.now = 100.0

    def talk(self, questions: Questions) -> What:
        questions.hear(self.says)
        while not questions.what:
            said = questions.say(self.now)
            self.heard += said
            for name, byte in (
                ("enter", b"\r"),
                ("syn", b"\x16"),
                ("ctrl_b", b"\x02"),
                ("sync", b"\xc0\x00\x08"),
            ):
                if byte in said:
                    questions.hear(self.answers.get(name, b""))
            self.now += 0.05
            assert self.now < 110, "no end"
        return questions.what


def ask(board: Board) -> What:
    return board.talk(Questions())


def test_a_node() -> None:
    board = Board(LOG, syn=b"ed\r\nlimpet 0.1.0 node n-07\r\n")
    assert ask(board) == What("node", "limpet 0.1.0, node n-07", "0.1.0", "n-07")
    assert board.now < 101
    assert board.heard == b"\r\x16"


def test_a_node_without_an_identity() -> None:
    assert ask(Board(syn=b"limpet 0.1.0 node -\r\n")) == What(
        "node", "limpet 0.1.0, without settings or without an identity", "0.1.0"
    )


def test_a_node_that_starts_and_is_too_busy_to_answer() -> None:
    starts = b"      0.020 node: limpet 0.2.0\r\n      0.044 node: I am 'n07'\r\n"
    assert ask(Board(starts)) == What("node", "limpet 0.2.0, node n07", "0.2.0", "n07")
    assert ask(Board(starts[starts.index(b"\n") + 1 :])) == What("node", "limpet, node n07", None, "n07")


def test_a_prompt_is_asked_for_its_version() -> None:
    board = Board(enter=b"\r\n>>> ", ctrl_b=b"\r\n" + BANNER)
    what = ask(board)
    assert (what.kind, what.version) == ("micropython", "v1.27.0")
    assert what.text == "MicroPython v1.27.0 at its prompt, Generic ESP32S3 module with ESP32S3"
    assert board.heard == b"\r\x16\x02"


def test_a_prompt_of_another_python() -> None:
    assert ask(Board(enter=b"\r\n>>> ")) == What("micropython", "a Python prompt")


def test_a_raw_prompt_is_silent_until_ctrl_b() -> None:
    board = Board(ctrl_b=b"\r\n" + BANNER)
    assert ask(board).kind == "micropython"
    assert board.heard == b"\r\x16\x02"


def test_a_rom_that_has_said_so() -> None:
    assert ask(Board(ROM)) == What("rom", "ROM bootloader of an ESP32-C3")
    assert conclude(b"waiting for download\r\n") == What("rom", "ROM bootloader")
    assert ask(Board(ROM + b"started\r\n")).kind == "talks"


def test_a_rom_that_waits_in_silence() -> None:
    board = Board(sync=b"\xc0\x01\x08\x04\x00\x07\x12\x20\x55\x00\x00\x00\x00\xc0")
    assert ask(board) == What("rom", "ROM bootloader")


@pytest.mark.parametrize(
    ("says", "text"),
    [
        (BLANK, "boot loop: nothing in its flash that it can boot (invalid header: 0xffffffff)"),
        (
            b"flash read err, 1000\r\n",
            "boot loop: nothing in its flash that it can boot (flash read err, 1000)",
        ),
        (b"E (59) boot: load partition table error!\r\n", "boot loop: it has no partition table"),
        (
            b"E (96) boot: No bootable app partitions in the partition table\r\n",
            "boot loop: it has no application that it can boot",
        ),
        (BROWNOUT, "boot loop: its supply breaks down (brownout)"),
        (
            b"Guru Meditation Error: Core  1 panic'ed (LoadProhibited). \r\n",
            "boot loop: its firmware crashes (Core  1 panic'ed (LoadProhibited). )",
        ),
        (
            b"The filesystem appears to be corrupted. If you had important data there,\r\n",
            "MicroPython waits: it finds its filesystem corrupted",
        ),
    ],
)
def test_boards_that_do_not_get_anywhere(says: bytes, text: str) -> None:
    assert ask(Board(says)) == What("broken", text)


def test_trouble_that_is_over_does_not_count() -> None:
    assert ask(Board(BROWNOUT, syn=b"limpet 0.1.0 node n07\r\n")).node == "n07"


def test_other_programs() -> None:
    assert ask(Board(b"\r\nT=21.5\r\nT=2")) == What("talks", "talks, but does not answer: T=21.5")
    assert ask(Board(b"\xf3\x9f\x1b[31m\x00\x07")).text == (
        r"talks, but does not answer: \xf3\x9f\x1b[31m\x00\x07"
    )
    assert ask(Board(b"x" * 50000)).text.endswith("x" * 40 + "…")


def test_silence() -> None:
    board = Board()
    assert ask(board).kind == "silent"
    assert board.now < 105


@pytest.mark.parametrize("steps", [WHO_ARE_YOU, EVERYTHING])
@pytest.mark.parametrize(
    "board",
    [Board(), Board(LOG), Board(enter=b"\r\n>>> "), Board(BLANK), Board(ROM), Board(b"\x00" * 3000)],
)
def test_nothing_that_is_said_stops_a_board(steps: object, board: Board) -> None:
    board.heard = b""
    board.talk(Questions(steps))  # type: ignore[arg-type]
    assert not set(b"\x03\x04\x05") & set(board.heard)
    if steps is WHO_ARE_YOU:
        assert set(board.heard) <= set(b"\r\x16\x02")


def test_an_answer_that_comes_in_pieces() -> None:
    questions = Questions()
    assert questions.say(0.0) == b""
    assert questions.say(0.4) == b"\r\x16"
    questions.hear(b"limpet 0.1.0 no")
    assert questions.say(0.5) == b""
    assert questions.what is None
    questions.hear(b"de n07\r")
    assert questions.say(0.6) == b""
    questions.hear(b"\n")
    questions.say(0.7)
    assert questions.what and questions.what.node == "n07"


def test_the_newest_introduction_counts() -> None:
    said = b"limpet 0.1.0 node n01\r\nlimpet 0.2.0 node n02\r\n"
    assert introduced(said) == (b"0.2.0", b"n02")
    assert introduced(b"limpet 0.2.0 node -\r\n") == (b"0.2.0", None)
    assert introduced(b"      1.000 uplink: limpet\r\n") == (None, None)


def test_what_would_steer_a_terminal_is_escaped() -> None:
    assert (
        readable("21.5 °C\x1b]0;title\x07\u202e".encode() + b"\xff")
        == "21.5 °C\\x1b]0;title\\x07\\u202e\\xff"
    )
