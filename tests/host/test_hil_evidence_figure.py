"""The drawing of a failure: what lasted, where the marks are, what is left out and said so."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from host_tools import hil
from host_tools.hil.clock import Clock
from host_tools.hil.evidence import figure
from host_tools.hil.evidence import spans as module
from host_tools.hil.evidence.figure import Figure, figure_of
from host_tools.hil.evidence.scale import Scale, around, nice_step
from host_tools.hil.evidence.series import series_of, steps, thinned
from host_tools.hil.evidence.spans import spans
from host_tools.hil.link import Link
from host_tools.hil.timeline import Timeline
from tests.host.evidence_results import START, happened, result

FAILED = result(outcome="failed", seconds=10.0)


def drawing(**changes) -> Figure:
    made = figure_of(replace(FAILED, **changes))
    assert made is not None
    return made


def lasted(*told, end=100.0) -> list[tuple]:
    return [
        (each.source, each.what, each.start - START, each.end - START)
        for each in spans(happened(*told), START + end)
    ]


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([(1, "power", "off"), (3, "power", "on")], [("power", "off", 1, 3)]),
        (
            [
                (1, "power", "failed"),
                (3, "power", "on; fails at flash operation 7", {"how": "torn"}),
            ],
            [("power", "off", 1, 3)],
        ),
        ([(1, "link", "cut"), (3, "link", "restore")], [("link", "cut", 1, 3)]),
        ([(1, "link", "refuse")], [("link", "refuses", 1, 100)]),
        (
            [(1, "link", "latency", {"latency": 0.2}), (3, "link", "latency", {"latency": 0.0})],
            [("link", "latency", 1, 3)],
        ),
        (
            [
                (1, "link", "Wi-Fi off"),
                (2, "link", "names fail", {"fault": "silent"}),
                (3, "link", "Wi-Fi on"),
                (4, "link", "clear"),
            ],
            [("link", "Wi-Fi off", 1, 3), ("link", "no names", 2, 4)],
        ),
        (
            [(1, "link", "loss", {"stall_chance": 0.1}), (2, "link", "restore"), (3, "link", "clear")],
            [("link", "loss", 1, 3)],
        ),
        (
            [(1, "clock", "silent"), (2, "clock", "jump"), (3, "clock", "honest")],
            [("clock", "silent", 1, 3)],
        ),
        (
            [(1, "clock", "silent"), (2, "clock", "late")],
            [("clock", "silent", 1, 2), ("clock", "late", 2, 100)],
        ),
        (
            [
                (1, "stimulus", "bme280: no-ack"),
                (2, "stimulus", "probe: cut"),
                (3, "stimulus", "bme280: sound"),
                (4, "stimulus", "cleared"),
            ],
            [("stimulus", "bme280: no-ack", 1, 3), ("stimulus", "probe: cut", 2, 4)],
        ),
        (
            [(1, "stimulus", "set", {"a": 1}), (1, "link", "reset"), (2, "node", "off"), (3, "clock", "set")],
            [],
        ),
        ([(1, "power", "on"), (2, "link", "restore"), (3, "clock", "honest")], []),
        ([(1, "clock", "silent"), (2, "clock", "clear", {"ahead": 0})], [("clock", "silent", 1, 2)]),
        (
            [
                (1, "broker", "killed"),
                (2, "broker", "started"),
                (3, "broker", "paused"),
                (4, "broker", "resumed"),
            ],
            [("broker", "stopped", 1, 2), ("broker", "paused", 3, 4)],
        ),
        (
            [(1, "node", "its port is lent"), (4, "node", "its port is ours again")],
            [("node", "port lent", 1, 4)],
        ),
        ([(200, "power", "off")], [("power", "off", 200, 200)]),
    ],
)
def test_what_lasted_comes_from_the_words_of_the_drivers(told, found):
    assert lasted(*told) == found


def test_the_words_are_those_that_the_drivers_use():
    """What the link really tells; were a word changed there, its bar would be missing here."""
    timeline = Timeline()
    with Link(timeline) as link, Clock(timeline) as clock:
        link.cut()
        link.refuse()
        link.clear()
        link.latency(0.1)
        link.loss(0.1)
        link.throttle(1e6)
        link.clear()
        clock.stop()
        clock.clear()
    end = timeline.events()[-1].at
    found = spans(timeline.events(), end + 1)
    assert [(each.source, each.what) for each in found] == [
        ("link", "cut"),
        ("link", "refuses"),
        ("link", "latency"),
        ("link", "loss"),
        ("link", "throttled"),
        ("clock", "silent"),
    ]
    assert all(each.end <= end for each in found)


def test_every_word_that_makes_a_bar_is_one_that_some_driver_tells():
    drivers = [
        each.read_text() for each in Path(hil.__file__).parent.rglob("*.py") if each != Path(module.__file__)
    ]
    words = {word for _, word in (*module._BEGINS, *module._ENDS)} | set(module._SOUND)
    assert not [word for word in words if not any(re.search(f"[\"']{word}[\"']", text) for text in drivers)]


@pytest.mark.parametrize(
    ("low", "high", "most", "labels"),
    [
        (0, 10, 5, ["0", "2", "4", "6", "8", "10"]),
        (-1.02, 3, 5, ["-1", "0", "1", "2", "3"]),
        (0.001, 0.0042, 4, ["0.001", "0.002", "0.003", "0.004"]),
        (101300, 101347, 5, ["101,300", "101,310", "101,320", "101,330", "101,340"]),
        (-0.25, 0.25, 4, ["-0.2", "0.0", "0.2"]),
    ],
)
def test_an_axis_has_round_numbers(low, high, most, labels):
    assert [label for _, label in Scale(low, high, 0, 100).ticks(most)] == labels


def test_a_scale_may_run_upwards():
    scale = Scale(0, 10, 100, 0)
    assert [scale(0), scale(2.5), scale(10)] == [100, 75, 0]


@pytest.mark.parametrize(
    ("least", "step"), [(0.9, 1), (1, 1), (1.1, 2), (3, 5), (6, 10), (0.03, 0.05), (2e7, 2e7)]
)
def test_steps_are_1_2_5(least, step):
    assert nice_step(least) == pytest.approx(step)


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 101325.0, 1e-9])
def test_a_value_that_never_changes_is_in_the_middle(value):
    low, high = around([value, value])
    assert low < value < high
    assert (low + high) / 2 == pytest.approx(value)


def test_a_line_breaks_where_readings_are_missing_or_bad():
    samples = [(START + n, float(n)) for n in (0, 1, 2, 3, 9, 10)] + [(START + 11, None), (START + 12, 12.0)]
    (found,) = series_of(replace(FAILED, readings={"a": tuple(samples)}), -1, 20)
    assert found.readings == [[(0, 0), (1, 1), (2, 2), (3, 3)], [(9, 9), (10, 10)], [(12, 12)]]
    assert found.bad == [11]


def test_what_is_dated_outside_of_the_test_is_counted():
    samples = ((946684800.0, 1.0), (START + 1, 2.0), (START + 2, 3.0))
    (found,) = series_of(replace(FAILED, readings={"a": samples}), 0, 10)
    assert (found.readings, found.elsewhere) == ([[(1, 2), (2, 3)]], 1)
    drawn = drawing(readings={"a": samples})
    assert drawn.plots[0].note == "1 readings are dated outside of this test"
    assert drawn.end > 1100  # the axis is that of the test


def test_a_stimulus_is_drawn_with_the_readings_of_its_channel():
    events = happened(
        (1, "stimulus", "set", {"b": 20}),
        (2, "stimulus", "set", {"b": 30.0, "how": "ramp"}),
        (3, "node", "x", {"c": 1}),
    )
    found = series_of(
        replace(FAILED, events=events, readings={"a": ((START, 1.0),), "b": ((START, 2.0),)}), 0, 10
    )
    assert [(each.channel, each.set_to) for each in found] == [("b", [(1, 20), (2, 30)]), ("a", [])]
    assert steps(found[0].set_to, 10) == [(1, 20), (2, 20), (2, 30), (10, 30)]
    assert steps([], 10) == []


def test_thinning_keeps_ends_and_extremes():
    points = [(float(n), float(n % 7)) for n in range(1000)]
    points[500] = (500.0, 99.0)
    points[700] = (700.0, -99.0)
    thin = thinned(points, 100)
    assert len(thin) <= 110
    assert {points[0], points[-1], points[500], points[700]} <= set(thin)
    assert thin == sorted(thin)
    assert thinned(points[:50], 100) == points[:50]


def test_lanes_are_in_their_order_with_bars_and_marks_on_one_axis():
    events = happened((5, "link", "restore"), (1, "serial", "up"), (2, "link", "cut"), (3, "strange", "x"))
    drawn = drawing(events=events)
    assert [each.source for each in drawn.lanes] == ["link", "test", "serial"]
    (link, other, serial) = drawn.lanes
    (bar,) = link.bars
    assert [mark.x for mark in link.marks] == [
        pytest.approx(bar.x, abs=1),
        pytest.approx(bar.x + bar.width, abs=1),
    ]
    assert [mark.label for mark in link.marks] == ["cut", "restore"]
    assert serial.marks[0].x < link.marks[0].x < other.marks[0].x < link.marks[1].x
    assert [row.text for row in drawn.rows] == ["up", "cut", "x", "restore"]
    assert [row.number for row in drawn.rows] == [0, 1, 2, 3]
    assert drawn.shades == [("link", bar.x, bar.width)]
    assert drawn.begin < serial.marks[0].x
    assert drawn.end == pytest.approx(1144 - 968 / 102, abs=1)


def test_each_lane_has_its_own_bars():
    events = happened((1, "link", "cut"), (2, "power", "off"), (3, "power", "on"))
    drawn = drawing(events=events)
    assert [(lane.source, [bar.label for bar in lane.bars]) for lane in drawn.lanes] == [
        ("power", ["off"]),
        ("link", ["cut"]),
    ]
    assert len(drawn.shades) == 2


def test_labels_fit_before_the_next_mark():
    events = happened((1, "node", "a long story of a node"), (2, "node", "short"), (2.1, "node", "z"))
    (lane,) = drawing(events=events).lanes
    assert [mark.label for mark in lane.marks] == ["a long story…", "", "z"]
    assert lane.marks[0].title == "+1.000 s  a long story of a node"


def test_marks_at_one_place_are_one():
    events = happened(
        *((1 + n / 10_000, "broker", f"limpet/node/{n}") for n in range(5)), (9, "serial", "Guru Meditation")
    )
    broker, serial = drawing(events=events).lanes
    assert (len(broker.marks), broker.count) == (1, 5)
    assert broker.marks[0].title == "+1.000 s  limpet/node/0 (and 4 more)"
    assert [mark.is_alarming for mark in serial.marks] == [True]
    assert not broker.marks[0].is_alarming


def test_a_lane_with_much_in_it_has_strokes():
    events = happened(*((n / 10, "broker", "limpet/node/data") for n in range(100)))
    (lane,) = drawing(events=events).lanes
    assert lane.is_dense
    assert len(lane.marks) == 100
    assert not drawing(events=events[:20]).lanes[0].is_dense


def test_of_a_long_log_the_end_is_listed_and_the_rest_counted(monkeypatch):
    monkeypatch.setattr(figure, "MOST_ROWS", 3)
    drawn = drawing(events=happened(*((n, "serial", str(n)) for n in range(8))))
    assert [row.text for row in drawn.rows] == ["5", "6", "7"]
    assert drawn.rows_left_out == 5
    assert drawn.lanes[0].count == 8


def test_plots_that_are_not_drawn_are_named():
    readings = {f"s/{n}": ((START, 1.0), (START + 1, 2.0)) for n in range(10)}
    drawn = drawing(readings=readings)
    assert (len(drawn.plots), drawn.not_drawn) == (8, ["s/8", "s/9"])


def test_nothing_known_is_no_drawing():
    assert figure_of(FAILED) is None


def test_a_test_that_took_no_time_can_be_drawn():
    drawn = drawing(seconds=0.0, events=happened((0, "serial", "x")), readings={"a": ((START, None),)})
    assert drawn.ticks
    assert drawn.plots[0].ticks == []
    assert len(drawn.plots[0].bad) == 1
