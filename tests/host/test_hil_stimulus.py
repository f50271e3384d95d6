"""What a node's sensors see: by virtual parts, a second board, a program, a reference sensor."""

import contextlib
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from host_tools.devices.port import Port
from host_tools.errors import LimpetError, UsageError
from host_tools.hil.blocked import Blocked
from host_tools.hil.board import open_board
from host_tools.hil.board.finding import find_port
from host_tools.hil.board.virtual import VirtualRung
from host_tools.hil.rigs import PortChoice, RigFile, load_rig
from host_tools.hil.rigs.stimulus import BoardStimulus, CommandStimulus, ReferenceStimulus
from host_tools.hil.stimulus import Stimulus, make_stimulus, resolve
from host_tools.hil.stimulus.board import ByBoard, SecondBoard
from host_tools.hil.stimulus.command import Command
from host_tools.hil.stimulus.driver import Driver
from host_tools.hil.stimulus.frames import ramp, recorded
from host_tools.hil.stimulus.reference import Reference
from host_tools.hil.timeline import Timeline
from host_tools.virtual.parts.bme280 import BME280
from host_tools.virtual.parts.current_loop import CurrentLoop
from host_tools.virtual.world import I2CBus
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig, boards_on_bench

CHANNELS = ("bme280/temperature", "bme280/pressure", "probe/temperature", "wind/speed")


def program(path: Path, code: str) -> str:
    """A program of this test's."""
    path.write_text(f"#!{sys.executable} -IS\n{code}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def blocked(act: Callable[[], object]) -> str:
    with pytest.raises(Blocked) as caught:
        act()
    return str(caught.value)


def told(timeline: Timeline) -> list[tuple[str, dict[str, float | int | str]]]:
    return [(event.text, event.values) for event in timeline.events() if event.source == "stimulus"]


# Names


def test_a_name_is_a_channel_or_its_leaf() -> None:
    assert resolve("bme280/temperature", CHANNELS) == "bme280/temperature"
    assert resolve("pressure", CHANNELS) == "bme280/pressure"
    with pytest.raises(
        UsageError, match="'temperature' may be bme280/temperature or probe/temperature: name"
    ):
        resolve("temperature", CHANNELS)
    with pytest.raises(UsageError, match=r"no channel 'probe/temprature'\. Did you mean 'probe/temperature'"):
        resolve("probe/temprature", CHANNELS)


# Frames


def test_a_ramp_in_equal_steps() -> None:
    times, values = zip(*ramp(20.0, 21.0, 0.4), strict=True)
    assert times == pytest.approx((0.0, 0.1, 0.2, 0.3, 0.4))
    assert values == pytest.approx((20.0, 20.25, 20.5, 20.75, 21.0))
    long = ramp(0.1, -0.3, 3600)
    assert (len(long), long[-1]) == (1001, (3600, -0.3))
    assert ramp(1.0, 2.0, 0.0)[-1] == (0.0, 2.0)
    for bad in ((0.0, 1.0, -1.0), (0.0, float("nan"), 1.0), (0.0, 1.0, float("inf"))):
        with pytest.raises(UsageError, match="A ramp from"):
            ramp(*bad)


def test_what_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_text(
        "time,temperature,dew\n2026-01-01 00:00,20.5,1\n2026-01-01 00:01,,2\n2026-01-01 00:03,21,3\n"
    )
    assert recorded(path, "temperature", None) == [(0.0, 20.5), (180.0, 21.0)]
    assert recorded(str(path), "dew", 0.5) == [(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)]
    assert recorded([3, float("nan"), 5], "", 2.0) == [(0.0, 3), (4.0, 5)]
    with pytest.raises(LimpetError, match="there is no column 'humidity'"):
        recorded(path, "humidity", None)
    with pytest.raises(UsageError, match="Values without times need a period"):
        recorded([1.0, 2.0], "", None)
    with pytest.raises(UsageError, match="The period of a replay is 0 s"):
        recorded([1.0, 2.0], "", 0)
    with pytest.raises(UsageError, match="no value to replay"):
        recorded([], "", 1.0)


# A virtual board's sensors

RIG = """
rung = "virtual"
board = "virtual"
[sensors.bme280]
period = "200ms"
[sensors.wind]
kind = "current_loop"
pin = 34
shunt = 100.0
quantity = "speed"
unit = "m/s"
range = [0, 30]
period = "500ms"
"""


@pytest.fixture(scope="module")
def virtual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RigFile, VirtualRung]]:
    path = tmp_path_factory.mktemp("rigs") / "here.toml"
    path.write_text(RIG)
    rig = load_rig(str(path))
    board = open_board(rig, Timeline())
    assert isinstance(board, VirtualRung)
    yield rig, board
    board.close()


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture
def stimulus(virtual: tuple[RigFile, VirtualRung], timeline: Timeline) -> Iterator[Stimulus]:
    made = make_stimulus(*virtual, timeline, find_port)
    yield made
    made.clear()


@pytest.fixture
def loop(virtual: tuple[RigFile, VirtualRung]) -> CurrentLoop:
    part = virtual[1].parts["wind"]
    assert isinstance(part, CurrentLoop)
    return part


@pytest.fixture
def bme280(virtual: tuple[RigFile, VirtualRung]) -> BME280:
    part = virtual[1].parts["bme280"]
    assert isinstance(part, BME280)
    return part


def test_a_sensor_sees_what_is_set(stimulus: Stimulus, loop: CurrentLoop, timeline: Timeline) -> None:
    first = stimulus.value("speed")
    stimulus.set("speed", 15.0)
    assert loop.milliamperes() == pytest.approx(12.0)
    stimulus.set("wind/speed", 30)
    assert loop.milliamperes() == pytest.approx(20.0)
    assert stimulus.value("speed") == 30
    assert stimulus.tolerance("speed") == 0
    assert told(timeline) == [
        ("is", {"wind/speed": first}),
        ("set", {"wind/speed": 15.0}),
        ("set", {"wind/speed": 30}),
        ("is", {"wind/speed": 30}),
    ]
    stimulus.clear()
    assert stimulus.value("speed") == first


def test_a_ramp_comes_to_its_end(stimulus: Stimulus, loop: CurrentLoop, timeline: Timeline) -> None:
    stimulus.ramp("speed", 0.0, 30.0, 0.5)
    stimulus.wait("speed")
    assert loop.milliamperes() == pytest.approx(20.0)
    values = [values["wind/speed"] for text, values in told(timeline) if text == "set"]
    assert values[0] == 0.0 and values[-1] == 30.0
    assert values == sorted(values, key=float)
    assert set(values) <= {value for _, value in ramp(0.0, 30.0, 0.5)}
    stimulus.wait("speed")  # nothing moves any more


def test_a_replay_takes_its_values_in_order(stimulus: Stimulus, timeline: Timeline, tmp_path: Path) -> None:
    stimulus.replay("humidity", [40, 60, 50], period=0.02)
    stimulus.wait("humidity")
    assert stimulus.value("humidity") == 50
    path = tmp_path / "gusts.csv"
    path.write_text("time,speed\n0,3\n0.01,9\n")
    stimulus.replay("wind/speed", path)
    stimulus.wait("speed")
    assert stimulus.value("speed") == 9


def test_what_moves_ends_with_the_next_value_and_with_the_test(
    stimulus: Stimulus, timeline: Timeline
) -> None:
    stimulus.ramp("speed", 0.0, 30.0, 600)
    stimulus.ramp("temperature", 20.0, 30.0, 600)
    moving = [each for each in threading.enumerate() if each.name.startswith("stimulus")]
    assert len(moving) == 2
    stimulus.set("speed", 3.0)
    assert stimulus.value("speed") == 3.0
    stimulus.clear()
    assert not any(each.is_alive() for each in moving)
    assert told(timeline)[-1] == ("cleared", {})


def test_a_sensor_breaks_and_is_mended(stimulus: Stimulus, loop: CurrentLoop, bme280: BME280) -> None:
    stimulus.fault("wind", "wire-break")
    stimulus.fault("bme280", "stuck")
    assert (loop.milliamperes(), bme280.stuck) == (0.0, True)
    stimulus.fault("wind", None)
    assert loop.milliamperes() > 4
    stimulus.clear()
    assert not bme280.stuck
    with pytest.raises(
        LimpetError, match="A current loop has no fault 'stuck'; it has wire-break, under-range"
    ):
        stimulus.fault("wind", "stuck")
    with pytest.raises(UsageError, match=r"There is no sensor 'bme208'\. Did you mean 'bme280'"):
        stimulus.fault("bme208", "stuck")


def test_what_a_rig_has_nothing_for(timeline: Timeline) -> None:
    bench = Stimulus(CHANNELS, {}, None, timeline)
    assert blocked(lambda: bench.set("wind/speed", 1.0)).startswith(
        'Nothing on this rig acts on wind/speed: give its file a table [stimulus."wind/speed"]'
    )
    assert "Only virtual sensors break" in blocked(lambda: bench.fault("wind", "wire-break"))
    with pytest.raises(UsageError, match="no channel 'sped'"):
        bench.set("sped", 1.0)


def test_a_leaf_is_that_of_the_channel_that_can_be_set(timeline: Timeline, tmp_path: Path) -> None:
    """The rig has two temperatures, and an oven around one of them."""
    by_program = Command(CommandStimulus.model_validate({"set": [sys.executable, "-ISc", "{value}"]}))
    one = Stimulus(CHANNELS, {"probe/temperature": by_program}, None, timeline)
    one.set("temperature", 40.0)
    assert one.value("probe/temperature") == 40.0
    assert "bme280/temperature" in blocked(lambda: one.set("bme280/temperature", 40.0))


# A program that sets


def of_a_program(folder: Path, code: str, **more: object) -> Driver:
    oven = program(folder / "oven", code)
    return Command(CommandStimulus.model_validate({"set": [oven, "--to={value}"], **more}))


def test_a_program_sets_and_resets(tmp_path: Path, timeline: Timeline) -> None:
    log = tmp_path / "log"
    code = f"import sys\nwith open({str(log)!r}, 'a') as file: print(*sys.argv[1:], file=file)"
    oven = of_a_program(tmp_path, code, reset=[str(tmp_path / "oven"), "off"])
    made = Stimulus(CHANNELS, {"wind/speed": oven}, None, timeline)
    made.clear()  # nothing was set: nothing is reset
    assert "Nobody knows this quantity before it is set" in blocked(lambda: made.value("speed"))
    made.set("speed", 21.5)
    made.set("speed", -3)
    assert made.value("speed") == -3
    made.clear()
    assert log.read_text().splitlines() == ["--to=21.5", "--to=-3", "off"]
    blocked(lambda: made.value("speed"))


def test_a_program_that_fails_in_the_middle_of_a_ramp(tmp_path: Path, timeline: Timeline) -> None:
    code = "import sys\nif sys.argv[1] != '--to=0': raise SystemExit('too hot')"
    made = Stimulus(CHANNELS, {"wind/speed": of_a_program(tmp_path, code)}, None, timeline)
    made.ramp("speed", 0.0, 1.0, 0.1)
    assert blocked(lambda: made.wait("speed")).endswith("oven' failed with exit code 1: too hot.")
    made.ramp("speed", 0.0, 1.0, 0.01)
    wait_until(
        lambda: not any(each.name == "stimulus wind/speed" for each in threading.enumerate()), "its end"
    )
    assert blocked(made.clear).endswith("too hot.")  # for the test that did not look
    assert told(timeline)[-1] == ("cleared", {})
    assert blocked(lambda: made.ramp("speed", 1.0, 2.0, 60)).endswith("too hot.")


# A reference sensor


def reference(folder: Path, code: str) -> Reference:
    meter = program(folder / "meter", code)
    return Reference(ReferenceStimulus.model_validate({"read": [meter], "tolerance": Decimal("0.5")}))


def test_a_reference_is_read_and_not_set(tmp_path: Path, timeline: Timeline) -> None:
    meter = reference(tmp_path, "print('warming up')\nprint(' 21.25 ')")
    made = Stimulus(CHANNELS, {"probe/temperature": meter}, None, timeline)
    assert made.value("temperature") == 21.25
    assert made.tolerance("temperature") == 0.5
    assert told(timeline) == [("is", {"probe/temperature": 21.25})]
    assert "nothing on the rig can set it" in blocked(lambda: made.set("temperature", 3.0))
    assert "nothing on the rig can set it" in blocked(lambda: made.ramp("temperature", 3.0, 4.0, 1.0))
    made.clear()


@pytest.mark.parametrize(
    ("code", "found"), [("print('no sensor')", "'no sensor'"), ("", "nothing"), ("print('nan')", "'nan'")]
)
def test_a_reference_that_prints_no_number(tmp_path: Path, code: str, found: str) -> None:
    assert f"printed {found}, and should print a number" in blocked(reference(tmp_path, code).value)


# A second board


class Mcp4725:
    """A DAC on I2C after Microchip's DS22039, as far as it is written in fast mode: 12 bits of its supply. It
    keeps its output as long as it has power, whatever the board that wrote it does."""

    stuck = False

    def __init__(self, address: int) -> None:
        self.address = address
        self._code = 0x800  # from the factory: half of it

    @property
    def volts(self) -> float:
        return 3.3 * self._code / 4096

    def write(self, data: bytes) -> bool:
        if len(data) == 2 and data[0] >> 6 == 0:  # figure 6-1
            self._code = int.from_bytes(data, "big") & 0xFFF
        return True

    def read(self, n: int) -> bytes:
        return bytes((0xC0, self._code >> 4, self._code << 4 & 0xF0))[:n].ljust(n, b"\0")


CODE = """
from machine import I2C, Pin
code = min(4095, round({value} / 3.3 * 4096))
I2C(0, scl=Pin(22), sda=Pin(21)).writeto(ADDRESS, bytes((code >> 8, code & 255)))
""".strip()


class DacBoard:
    """A virtual board with two such DACs, and what the rig file says of it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.dacs = [Mcp4725(0x60), Mcp4725(0x61)]
        rig.world.i2c[22, 21] = I2CBus(list(self.dacs))

    def spec(self, address: int = 0x60, **more: str) -> BoardStimulus:
        code = CODE.replace("ADDRESS", str(address))
        return BoardStimulus.model_validate(
            {"kind": "board", "port": PortChoice(url=self.rig.url), "code": code, **more}
        )


@pytest.fixture(scope="module")
def second() -> Iterator[DacBoard]:
    with boards_on_bench() as (rig,):
        rig.says(">>> ")
        yield DacBoard(rig)


def test_a_second_board_makes_a_voltage(second: DacBoard, timeline: Timeline) -> None:
    code = CODE.replace("ADDRESS", "0x60").replace("{value}", "0.0")
    spec = second.spec(reset_code=f"exec({code!r})")
    board = SecondBoard(spec.port, find_port)
    made = Stimulus(CHANNELS, {"wind/speed": ByBoard(spec, board)}, None, timeline)
    made.clear()  # nothing was set: the board is left alone
    boots = second.rig.board.boots
    assert second.dacs[0].volts == pytest.approx(1.65)
    made.set("speed", 2.5)
    assert second.dacs[0].volts == pytest.approx(2.5, abs=0.001)
    made.ramp("speed", 0.5, 1.0, 0.2)
    made.wait("speed")
    assert second.dacs[0].volts == pytest.approx(1.0, abs=0.001)
    assert made.value("speed") == 1.0
    assert second.rig.board.boots == boots  # in one session: a restart lets go of the pins
    made.clear()
    assert second.dacs[0].volts == 0.0
    wait_until(lambda: second.rig.board.boots > boots, "the second board's restart")


def test_a_second_board_makes_several_quantities(
    second: DacBoard, timeline: Timeline, tmp_path: Path
) -> None:
    rig = tmp_path / "desk.toml"
    specs = [second.spec(address) for address in (0x60, 0x61)]
    tables = "\n".join(
        f'[stimulus."{name}"]\nkind = "board"\nport.url = "{second.rig.url}"\ncode = """{spec.code}"""'
        for name, spec in zip(("bme280/temperature", "wind/speed"), specs, strict=True)
    )
    bench = RIG.replace('"virtual"\nboard', '"bench"\nport = { url = "rfc2217://localhost:9" }\nboard')
    rig.write_text(bench + tables)
    with contextlib.ExitStack() as undo:
        board = VirtualRungOfNobody()
        made = make_stimulus(load_rig(str(rig)), board, timeline, find_port)  # type: ignore[arg-type]
        undo.callback(made.clear)
        made.set("temperature", 1.0)
        made.set("speed", 2.0)
        assert [dac.volts for dac in second.dacs] == pytest.approx([1.0, 2.0], abs=0.001)


class VirtualRungOfNobody:
    """A bench board has no part in its stimuli."""


def test_a_second_board_that_has_restarted_is_told_again(second: DacBoard, timeline: Timeline) -> None:
    spec = second.spec()
    made = Stimulus(
        CHANNELS, {"wind/speed": ByBoard(spec, SecondBoard(spec.port, find_port))}, None, timeline
    )
    made.set("speed", 1.0)
    seen = len(second.rig.log)
    second.rig.power_off()
    second.rig.power_on()
    second.rig.says(">>> ", seen)
    made.set("speed", 2.0)
    assert second.dacs[0].volts == pytest.approx(2.0, abs=0.001)
    made.clear()


def test_a_session_that_is_too_old_to_try_again_by_itself(second: DacBoard) -> None:
    spec = second.spec()
    board = SecondBoard(spec.port, find_port)
    by_board = ByBoard(spec, board)
    by_board.set(1.0)
    assert board._repl is not None
    board._repl._end = 0.0
    second.rig.power_off()
    second.rig.power_on()
    by_board.set(2.0)
    assert second.dacs[0].volts == pytest.approx(2.0, abs=0.001)
    by_board.clear()


def test_a_second_board_that_cannot(second: DacBoard, timeline: Timeline) -> None:
    spec = second.spec(0x33)
    made = Stimulus(
        CHANNELS, {"wind/speed": ByBoard(spec, SecondBoard(spec.port, find_port))}, None, timeline
    )
    why = blocked(lambda: made.set("speed", 1.0))
    assert why.startswith("The second board, which sets this quantity, cannot: ")
    assert "OSError" in why and "ENODEV" in why
    made.clear()
    gone = SecondBoard(PortChoice(url="rfc2217://localhost:9"), lambda choice: Port(choice.url or ""))
    assert "nothing listens there" in blocked(lambda: ByBoard(spec, gone).set(1.0))
