"""The console of the demo: what it knows from messages, and both its views."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC

import pytest
from rich.console import Console

from host_tools.demo import plain
from host_tools.demo.model import Model, Notice, Summary, sparkline
from host_tools.demo.screen import About, render
from host_tools.demo.show import show
from host_tools.demo.text import age_text, size_text
from host_tools.telemetry.subscriber import Event, Link, Message

T0 = 1763820000.0  # 2025-11-22 14:00:00 UTC
ABOUT = About("Mosquitto 2.0.11", "recorded weather, one hour in 5 s")
Values = tuple[str, str, str]  # channel, unit, value; a value that is no number is the reason of a bad one

TEMPERATURE = ("bme280/temperature", "Cel", "21.30")
PRESSURE = ("bme280/pressure", "Pa", "100653.27")
HUMIDITY = ("bme280/humidity", "%RH", "45.10")
WIND = ("wind/speed", "m/s", "0.00")
BAD = ("probe/temperature", "Cel", "power-on value")


def data(
    seq: int, *values: Values, at: float = T0, node: str = "n01", topic: str = "", time: str = ""
) -> Message:
    """A pack of readings from `seq` on, each in a group of its own; `time` is what is said of their time."""
    records = []
    for index, (channel, unit, value) in enumerate(values):
        head = f'"bn":"{node}/{channel}","bu":"{unit}","seq":{seq + index},{time}'
        if index == 0:
            head += f'"bt":{at:.3f},"epoch":"1a2b3c4d",'
        is_number = value.lstrip("-").replace(".", "", 1).isdigit()
        tail = f'"v":{value}' if is_number else f'"vs":"{value}","q":"bad"'
        records.append(f"{{{head}{tail}}}")
    return Message(f"limpet/{topic or node}/data", f"[{','.join(records)}]".encode(), at)


def state(up: bool, node: str = "n01", at: float = T0) -> Message:
    payload = b'{"up":true,"epoch":"1a2b3c4d"}' if up else b'{"up":false}'
    return Message(f"limpet/{node}/state", payload, at)


def told(text: str, node: str = "n01", at: float = T0) -> Message:
    return Message(f"limpet/{node}/event", f"{{{text}}}".encode(), at)


def gap(first: int, last: int, why: str = "full", node: str = "n01") -> Message:
    return told(f'"event":"gap","epoch":"1a2b3c4d","first":{first},"last":{last},"why":"{why}"', node)


def notices(model: Model, *events: Event) -> list[str]:
    return [item.text for event in events for item in model.take(event, T0) if isinstance(item, Notice)]


def model_of(*events: Event, limit: int | None = None) -> Model:
    model = Model(limit)
    for event in events:
        model.take(event, T0)
    return model


def screen(model: Model, now: float = T0, width: int = 80) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(render(model, ABOUT, now))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    return text


def row(text: str, channel: str) -> str:
    """The one line with the channel, single-spaced."""
    (found,) = (line for line in text.splitlines() if channel in line)
    return " ".join(found.split())


def test_screen_with_nothing_yet() -> None:
    text = screen(Model())
    assert "Mosquitto 2.0.11: connecting, 0 messages, 0 B" in text
    assert "nodes: none yet" in text
    assert "recorded weather, one hour in 5 s" in text
    assert "Waiting for the first reading." in text
    assert "0 readings, 0 lost, 0 duplicate    Ctrl-C ends" in text


def test_screen_with_readings_at_80_columns() -> None:
    pack = data(0, TEMPERATURE, PRESSURE, HUMIDITY, WIND, BAD)
    text = screen(model_of(Link(True), state(True), pack), T0 + 1.2)
    assert f"connected, 2 messages, {pack.size + 30} B" in text
    assert "nodes: n01 up" in text
    for channel, value in (
        ("bme280/temperature", "21.30 °C"),
        ("bme280/pressure", "100653.27 Pa"),
        ("bme280/humidity", "45.10 % RH"),
        ("wind/speed", "0.00 m/s"),
    ):
        assert row(text, channel) == f"n01 {channel} {value} ▅ 1.2 s"
    assert row(text, "probe") == "n01 probe/temperature bad: power-on value × 1.2 s"
    assert "5 readings, 0 lost, 0 duplicate" in text


def test_screen_with_the_demos_names_and_the_longest_reason_cuts_nothing() -> None:
    model = model_of(data(0, TEMPERATURE, ("probe/temperature", "Cel", "no acknowledge"), node="demo-01"))
    text = screen(model, T0 + 119)
    assert row(text, "bme280") == "demo-01 bme280/temperature 21.30 °C 119 s"
    assert row(text, "probe") == "demo-01 probe/temperature bad: no acknowledge 119 s"


def test_screen_with_a_long_node_id_folds_and_cuts_nothing() -> None:
    text = screen(model_of(data(0, TEMPERATURE, PRESSURE, BAD, node="a2345678901234567890123456789012")))
    assert "…" not in text
    assert "21.30 °C" in text and "100653.27" in text


def test_screen_with_a_node_down() -> None:
    text = screen(model_of(Link(True), state(True), data(0, TEMPERATURE), state(False)), T0 + 300)
    assert "nodes: n01 down" in text
    assert row(text, "bme280") == "n01 bme280/temperature 21.30 °C 5 min"
    assert "\nn01: down" in text


def test_screen_with_the_broker_lost() -> None:
    text = screen(model_of(Link(True), Link(False, "it closed the connection")))
    assert "Mosquitto 2.0.11: it closed the connection, 0 messages" in text
    assert "\nlost the broker: it closed the connection" in text


def test_screen_with_two_nodes_a_loss_and_a_duplicate() -> None:
    text = screen(
        model_of(
            data(0, TEMPERATURE),
            data(0, TEMPERATURE),
            data(3, TEMPERATURE),
            state(True, "n02"),
            data(0, ("probe/temperature", "Cel", "-0.05"), node="n02"),
        )
    )
    assert "nodes: n01 ?  n02 up" in text
    assert "3 readings, 2 lost, 1 duplicate" in text
    assert row(text, "probe") == "n02 probe/temperature -0.05 °C ▅ 0.0 s"
    assert text.index("bme280/temperature") < text.index("probe/temperature")


def test_announced_losses_are_told_and_counted_apart() -> None:
    model = model_of(data(0, TEMPERATURE))
    assert notices(model, gap(1, 4), gap(1, 4), gap(6, 6, "damaged"), gap(3, 5, node="n02")) == [
        "n01: lost 4 readings, 1 to 4, its spool was full",
        "n01: lost reading 6, its spool was damaged",
        "n02: lost 3 readings, 3 to 5, its spool was full",
    ]
    assert "1 readings, 0 lost, 0 duplicate" in screen(model)  # nothing has come from behind the gaps yet
    model.take(data(5, TEMPERATURE), T0)
    assert "2 readings, 4 lost (4 announced), 0 duplicate    Ctrl-C" in screen(model)
    model.take(data(8, TEMPERATURE), T0)
    assert "3 readings, 6 lost (5 announced), 0 duplicate    Ctrl-C" in screen(model)


def test_remarks_are_told() -> None:
    text = screen(model_of(told('"event":"clock","text":"no server has answered"')))
    assert "\nn01: clock: no server has answered" in text


def test_a_time_that_was_not_known_has_a_mark() -> None:
    known = model_of(
        data(0, TEMPERATURE), data(1, PRESSURE, time='"tq":"holdover",'), data(2, WIND, time='"t":1,')
    )
    assert "time" not in screen(known)
    model = model_of(
        data(0, TEMPERATURE, time='"tq":"recovered",'),
        data(1, PRESSURE, time='"tq":"unknown",'),
        data(2, WIND),
        data(
            3, ("probe/temperature", "Cel", "no acknowledge"), time='"tq":"unknown","tu":7,', node="demo-01"
        ),
    )
    text = screen(model, T0 + 119)
    assert row(text, "bme280/temperature") == "n01 bme280/temperature 21.30 °C 119 s*"
    assert row(text, "pressure") == "n01 bme280/pressure 100653.27 Pa 119 s?"
    assert row(text, "wind") == "n01 wind/speed 0.00 m/s 119 s"
    assert row(text, "probe") == "demo-01 probe/temperature bad: no acknowledge 119 s?"
    assert "\n* time recovered after the fact   ? time unknown: the earliest that it can be" in text
    model.take(data(4, TEMPERATURE, PRESSURE, at=T0 + 1), T0)
    model.take(data(6, ("probe/temperature", "Cel", "1.5"), node="demo-01"), T0)
    assert "time" not in screen(model).replace("probe/temperature", "")


def test_what_a_node_sends_cannot_steer_the_terminal() -> None:
    evil = data(0, ("probe/temperature", "Cel", r"\u001b[2Jgone"))
    text = screen(model_of(evil, Message("limpet/\x1b[2J/data", b"[", T0)))
    assert "\x1b" not in text
    assert "payload refused" in text
    text = screen(model_of(told(r'"event":"clock","text":"\u001b[2J"')))
    assert "\x1b" not in text
    assert "n01: event refused, 'text' must be" in text


def test_a_pack_for_another_node_is_refused() -> None:
    model = Model()
    (notice,) = model.take(data(0, TEMPERATURE, node="n02", topic="n01"), T0)
    assert isinstance(notice, Notice)
    assert notice.text == "n01: payload refused, record 1: it speaks for 'n02' on the topic of 'n01'"
    assert model.ledger.readings == 0 and not model.channels


@pytest.mark.parametrize("payload", [b"{", b"7", b"{}", b'{"up":1}', b"\xff", b"[" * 100_000])
def test_a_state_that_is_none_is_told(payload: bytes) -> None:
    (notice,) = Model().take(Message("limpet/n01/state", payload, T0), T0)
    assert isinstance(notice, Notice) and notice.text == "n01: its state is not as it should be"


def test_only_changes_are_told() -> None:
    model = Model()
    events: list[Event] = [Link(False, "x"), Link(True), Link(True), state(True), state(True), state(False)]
    assert notices(model, *events) == ["connected to the broker", "n01: up", "n01: down"]
    assert model.take(Message("limpet/n01/state", b"", T0), T0) == []
    assert model.take(Message("limpet/n01/health", b"whatever", T0), T0) == []
    assert model.messages == 5


def test_the_limit_is_exact_even_within_a_pack() -> None:
    model = Model(limit=3)
    first = model.take(data(0, TEMPERATURE, PRESSURE), T0)
    assert (len(first), model.is_complete) == (2, False)
    assert model.take(data(0, TEMPERATURE, PRESSURE), T0) == []  # duplicates do not count
    second = model.take(data(2, TEMPERATURE, PRESSURE), T0)
    assert (len(second), model.is_complete) == (1, True)
    assert model.ledger.readings == 3
    assert model.ledger.duplicates == 2


def test_history_is_a_minute_and_bounded() -> None:
    model = Model()
    for number in range(5000):
        model.take(data(number, TEMPERATURE, at=T0 + number * 0.01), T0)
    (channel,) = model.channels.values()
    assert 1000 <= len(channel.points) <= 2000
    model.take(data(5000, TEMPERATURE, at=T0 + 110), T0)
    model.take(data(5001, ("bme280/temperature", "Cel", "5.00"), at=T0), T0)  # late: not the latest
    assert channel.latest.seq == 5000
    assert all(at >= T0 + 50 for at, _ in list(channel.points)[:-1])
    model.take(data(5002, TEMPERATURE, at=T0 + 500), T0)
    assert [at for at, _ in channel.points] == [T0 + 500]


def test_sparkline() -> None:
    # Six slots of ten seconds, that begin at multiples of ten; the last one is 1200 to 1210.
    now = 1205.0
    assert sparkline([(1172, 1.0), (1181, 2.0), (1199, None), (1200, 0.0)], now, 6) == "  ▅█×▁"
    assert sparkline([], now, 6) == "      "
    assert sparkline([(1200, 7.0)], now, 6) == "     ▅"
    assert sparkline([(1149.9, 1.0), (1150, 2.0), (1209.9, 2.0), (1210, 9.0)], now, 6) == "▅    ▅"
    assert sparkline([(1203, 3.0), (1201, 5.0), (1195, 4.0)], now, 6) == "    ▅▅"  # the mean counts
    assert sparkline([(1203, 3.0), (1201, None), (1195, 4.0)], now, 6) == "    ▅×"
    rising = [(1150 + number * 7.5, float(number)) for number in range(8)]
    assert sparkline(rising, 1203, 8) == "▁▂▃▄▅▆▇█"
    assert sparkline(rising[1:], 1209, 8) == "▁▂▃▅▆▇█ "


def test_plain_lines() -> None:
    items = Model().take(data(0, TEMPERATURE, BAD, ("level/height", "mm", "-7"), at=T0 + 1.999), T0)
    assert [plain.line(item, UTC) for item in items] == [
        "14:00:01 n01 bme280/temperature 21.30 °C",
        "14:00:01 n01 probe/temperature bad: power-on value",
        "14:00:01 n01 level/height -7 mm",
    ]
    items = [
        item
        for message in (
            data(3, TEMPERATURE, time='"tq":"recovered",'),
            data(4, BAD, time='"tq":"unknown",'),
            data(5, WIND, time='"tq":"unknown","tu":200,'),
            data(6, WIND, time='"tq":"holdover",'),
        )
        for item in Model().take(message, T0)
    ]
    assert [plain.line(item, UTC) for item in items] == [
        "14:00:00 n01 bme280/temperature 21.30 °C (time recovered)",
        "14:00:00 n01 probe/temperature bad: power-on value (time unknown: then or later)",
        "14:00:00 n01 wind/speed 0.00 m/s (time unknown: then or up to 3 min later)",
        "14:00:00 n01 wind/speed 0.00 m/s",
    ]
    assert plain.line(Notice(T0, "n01: down"), UTC) == "# 14:00:00 n01: down"


def test_sizes_and_ages() -> None:
    assert [size_text(size) for size in (0, 999, 1000, 999_949, 999_950)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "999.9 kB",
        "1.0 MB",
    ]
    assert [age_text(age) for age in (-5, 0.44, 9.94, 9.95, 119, 120, 7199, 7200)] == [
        "0.0 s",
        "0.4 s",
        "9.9 s",
        "10 s",
        "119 s",
        "2 min",
        "120 min",
        "2 h",
    ]


def test_the_summary_line() -> None:
    assert str(Summary(20, 0, 0, 3.21)) == "20 readings, 0 lost, 0 duplicate, 3.2 s"
    assert str(Summary(20, 5, 1, 3.21)) == "20 readings, 5 lost, 1 duplicate, 3.2 s"
    assert str(Summary(20, 5, 1, 3.21, 3)) == "20 readings, 5 lost (3 announced), 1 duplicate, 3.2 s"


class Script:
    """Gives events one by one; at the end calls `then`, or waits for ever as a silent broker would."""

    def __init__(self, *events: Event, then: Callable[[], None] | None = None) -> None:
        self._events = list(events)
        self._then = then

    def next_event(self, timeout: float) -> Event | None:
        if self._events:
            return self._events.pop(0)
        if self._then:
            self._then()
        return None


def interrupt() -> None:
    raise KeyboardInterrupt


def test_show_prints_plain_lines_and_the_summary() -> None:
    out = io.StringIO()
    summary = show(Script(Link(True), data(0, TEMPERATURE, BAD), data(2, WIND, WIND)), out, 3, ABOUT)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("# ") and lines[0].endswith(" connected to the broker")
    assert [line.split(" ", 1)[1] for line in lines[1:4]] == [
        "n01 bme280/temperature 21.30 °C",
        "n01 probe/temperature bad: power-on value",
        "n01 wind/speed 0.00 m/s",
    ]
    assert lines[4:] == [f"3 readings, 0 lost, 0 duplicate, {summary.seconds:.1f} s"]
    assert (summary.readings, summary.interrupted) == (3, False)


def test_readings_of_an_earlier_boot_may_come_first() -> None:
    out = io.StringIO()
    old = data(0, TEMPERATURE, WIND, at=T0 - 9000, time='"tq":"recovered",')
    summary = show(Script(old, gap(2, 4), data(5, WIND)), out, 3, ABOUT)
    lines = [line.split(" ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines[:2] == [
        "n01 bme280/temperature 21.30 °C (time recovered)",
        "n01 wind/speed 0.00 m/s (time recovered)",
    ]
    assert lines[2].endswith(" n01: lost 3 readings, 2 to 4, its spool was full")
    assert lines[3:] == [
        "n01 wind/speed 0.00 m/s",
        f"readings, 3 lost (3 announced), 0 duplicate, {summary.seconds:.1f} s",
    ]


def test_ctrl_c_ends_with_the_summary() -> None:
    out = io.StringIO()
    summary = show(Script(data(1, TEMPERATURE), then=interrupt), out, None, ABOUT)
    assert summary.interrupted
    assert out.getvalue().splitlines()[-1].startswith("1 readings, 1 lost, 0 duplicate, ")


def test_one_who_joins_in_the_middle_has_lost_nothing() -> None:
    summary = show(Script(data(7, TEMPERATURE)), io.StringIO(), 1, ABOUT, from_start=False)
    assert summary.lost == 0


def test_what_the_check_raises_ends_it() -> None:
    def check() -> None:
        raise RuntimeError("the board has died")

    with pytest.raises(RuntimeError, match="the board has died"):
        show(Script(), io.StringIO(), None, ABOUT, check=check)


PROGRAM = """
import sys, time
from host_tools.demo.screen import About
from host_tools.demo.show import show
from host_tools.telemetry.subscriber import Message

class Source:
    seq = 0
    def next_event(self, timeout):
        record = '[{"bn":"n01/a/b","bt":%.3f,"epoch":"00000000","bu":"m","seq":%d,"v":1}]'
        self.seq += 1
        time.sleep(0.01)
        return Message("limpet/n01/data", (record % (time.time(), self.seq - 1)).encode(), time.time())

limit = int(sys.argv[1])
print("ended:", show(Source(), sys.stdout, limit or None, About("b", "note")).interrupted, file=sys.stderr)
"""


def test_on_a_terminal_it_is_a_table_that_ctrl_c_ends() -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, "0"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "25"}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=environment, text=True
    )
    os.close(slave)
    seen = b""
    while "Ctrl-C ends" not in seen.decode(errors="ignore") or b"\x1b[1A" not in seen:
        seen += os.read(master, 65536)  # until it has been drawn twice
    drained = threading.Thread(target=_drain, args=(master, rest := bytearray()))
    drained.start()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    drained.join()
    os.close(master)
    assert (process.returncode, errors) == (0, "ended: True\n")
    assert "a/b" in seen.decode()
    text = rest.decode()
    assert "\x1b[?25h" in text  # the cursor is shown again
    assert " readings, 0 lost, 0 duplicate, " in text.splitlines()[-1]


def _drain(terminal: int, into: bytearray) -> None:
    try:
        while chunk := os.read(terminal, 65536):
            into += chunk
    except OSError:
        pass  # Linux says end of file on a pty by EIO


def test_on_a_dumb_terminal_it_is_plain_lines() -> None:
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "dumb"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, "2"], stdout=slave, env=environment)
    os.close(slave)
    _drain(master, text := bytearray())
    os.close(master)
    assert process.wait() == 0
    assert b"\x1b" not in text
    assert [line.split()[1:] for line in text.decode().splitlines()[:2]] == [["n01", "a/b", "1", "m"]] * 2


def test_forced_colour_makes_no_table_in_a_file() -> None:
    environment = os.environ | {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "2"], capture_output=True, text=True, env=environment, check=True
    )
    assert len(done.stdout.splitlines()) == 3


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    assert " n01 a/b 1 m" in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "ended: True\n"
    assert process.wait() == 0
