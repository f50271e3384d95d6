"""Time: no reading is misdated, whatever the time servers and the node's own clock do."""

import datetime
import re
from typing import Any

from host_tools.hil.broker import Witness
from host_tools.hil.clock import Clock
from host_tools.hil.node import Node
from host_tools.hil.readings import Readings
from host_tools.hil.rig import Rig

OLD = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
HOUR = 3600.0
PATIENCE_S = 40.0
"""Without time a node asks for it every 16 s at first, and connects after 10 s."""
TOLERANCE = 2.0
"""Periods; a machine whose cores are all busy takes a sample late."""


def verdict(node: Node, since: int | None = None) -> str:
    """What its clock said first since its start, or since then: of the first answers, or of their absence."""
    return node.says(re.compile(r"clock: .*"), since=since)


def restart(node: Node) -> int:
    """Reset it as firmware does: the button stops the chip's own clock too. From where on to read its log."""
    since = node.log.mark()
    node.enter("import machine\nmachine.reset()")
    return since


def health_of_this_boot(broker: Witness, node: Node) -> dict[str, Any]:
    """The first health report that comes from now on."""
    before = broker.health(node)

    def new() -> dict[str, Any] | None:
        now = broker.health(node)
        return now if now != before else None

    return broker.wait_for(new, "a new health report", PATIENCE_S)


def with_servers(node: Node, *clocks: Clock) -> None:
    """Have it ask these too, and start it anew."""
    others = [{"host": each.address, "port": each.port} for each in clocks]
    node.configure(ntp=[*node.settings["ntp"], *others])


def assert_right(found: Readings, begin: float, clock: Clock) -> None:
    """Nothing is missing, and each time is one of this test."""
    assert found.without_gaps()
    assert all(begin - 60 < taken < clock.now() + 60 for taken in found.times)


def test_a_clock_that_is_set_late_dates_what_came_before(node: Node, broker: Witness, clock: Clock) -> None:
    """Without any time the node connects and holds its readings. Once it has the time they all come, with the
    times at which they were taken."""
    before = len(broker.readings(node))
    clock.stop()
    begin = clock.now()
    node.reset()
    assert health_of_this_boot(broker, node)["clock"] == "unknown"
    assert all(each.quality == "synced" for each in broker.readings(node, settle=None)[before:])
    clock.start()
    found = broker.readings(node, settle=PATIENCE_S)
    assert {each.quality for each in found} == {"recovered", "synced"}
    late = found[next(at for at in range(before, len(found)) if found[at].quality == "recovered") :]
    assert begin - 2 <= late.times[0] <= late.times[-1] <= clock.now()
    for sensor in node.settings["sensors"]:
        for channel in (each for each in late.channels if each.startswith(f"{sensor['name']}/")):
            assert late.of(channel).without_gaps(sensor["period_ms"] / 1000, TOLERANCE)


def test_boots_that_never_had_the_time_are_dated_between_their_neighbours(
    node: Node, broker: Witness, clock: Clock
) -> None:
    """The second one finds in the chip's own clock what the first one has put there for want of the time."""
    broker.readings(node)
    clock.stop()
    begin = clock.now()
    node.reset()
    verdict(node)
    verdict(node, restart(node))
    end = clock.now()
    clock.start()
    restart(node)
    found = broker.readings(node)
    assert found.without_gaps() and {each.quality for each in found} == {"recovered", "synced", "unknown"}
    for each in found:
        if each.quality == "unknown":
            assert each.later_s is not None and each.later_s < 60
            assert each.unix_ms / 1000 <= end + 2 and each.unix_ms / 1000 + each.later_s >= begin - 2


def test_what_is_no_answer_is_not_believed(node: Node, clock: Clock) -> None:
    """RFC 4330 section 5: a server without time, text, an answer to nobody's question, a kiss of death. And a
    time before this firmware was made."""
    for lie, complaint in (
        ("silent", "no answer"),
        ("unsynchronised", "server is not synchronised"),
        ("nonsense", "answers nonsense"),
        ("forged", "answers nonsense"),
        ("kiss-of-death", "sends us away"),
    ):
        clock.lie(lie)
        node.reset()
        assert verdict(node).endswith(f":{clock.port}: {complaint}"), lie
    clock.start()
    clock.set(OLD)
    node.reset()
    assert verdict(node).endswith("server is in another age")


def test_a_time_before_the_last_reading_is_not_believed_at_once(node: Node, clock: Clock) -> None:
    clock.jump(-HOUR)
    node.reset()
    assert re.search(r": -3[56]\d\d s off; not believed yet$", verdict(node))


def test_a_reset_keeps_the_time_without_a_server(node: Node, broker: Witness, clock: Clock) -> None:
    """And the readings and the health report say that nobody has confirmed it."""
    begin, before = clock.now(), broker.readings(node)
    assert health_of_this_boot(broker, node)["clock"] == "synced"
    clock.stop()
    restart(node)
    found = broker.readings(node)
    assert_right(found, begin, clock)
    assert found[-1].quality == "holdover" and found[len(before)].quality == "synced"
    assert health_of_this_boot(broker, node)["clock"] == "holdover"


def test_of_two_servers_that_disagree_none_is_believed(node: Node, clock: Clock, rig: Rig) -> None:
    """At the first sync: nobody knows which of them is right."""
    liar = rig.another_clock()
    liar.jump(HOUR)
    with_servers(node, liar)
    assert verdict(node).endswith("the servers disagree")


def test_the_kept_time_decides_between_two_servers(
    node: Node, broker: Witness, clock: Clock, rig: Rig
) -> None:
    begin, liar = clock.now(), rig.another_clock()
    with_servers(node, liar)
    node.says("clock: synced")
    liar.jump(HOUR)
    since = restart(node)
    assert re.search(rf":{liar.port}: outvoted, 3[56]\d\d s off$", verdict(node, since))
    assert_right(broker.readings(node), begin, clock)


def test_a_liar_is_outvoted(node: Node, broker: Witness, clock: Clock, rig: Rig) -> None:
    """At the first sync too, if two others agree."""
    begin, liar = clock.now(), rig.another_clock()
    liar.jump(-HOUR)
    with_servers(node, liar, rig.another_clock())
    assert re.search(rf":{liar.port}: outvoted, -3[56]\d\d s off$", verdict(node))
    assert_right(broker.readings(node), begin, clock)
