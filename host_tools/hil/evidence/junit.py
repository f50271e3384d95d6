"""The results as JUnit XML, in the dialect of pytest and Jenkins (xunit2).

A reader that knows neither rungs nor rigs still takes none for another: both are in the class name.
"""

import io
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

from junitparser import Failure, Skipped
from junitparser.xunit2 import FlakyFailure, JUnitXml, TestCase, TestSuite

from host_tools.hil.evidence.collect import Results
from host_tools.hil.evidence.record import RUNGS, Result
from host_tools.hil.evidence.summary import WHAT_IT_IS_NOT, claim
from host_tools.hil.evidence.visible import visible
from host_tools.hil.timeline import Event


def junit_report(results: Results) -> str:
    """The document: a suite for each rig."""
    xml = JUnitXml("limpet")
    for suite in _suites(results):
        xml.append(suite)
    xml.update_statistics()
    out = io.BytesIO()
    xml.write(out, pretty=True)
    return out.getvalue().decode()


def text_timeline(result: Result) -> str:
    """Its events as text, a line each, with seconds since the test's start."""
    return "\n".join(_event(event, result.started) for event in result.events)


def _suites(results: Results) -> Iterator[TestSuite]:
    rigs = {(each.rung, each.rig): None for each in results}
    for rung, rig in sorted(rigs, key=lambda key: (RUNGS.index(key[0]), key[1])):
        members = [each for each in results if (each.rung, each.rig) == (rung, rig)]
        suite = TestSuite(visible(f"{rung}: {rig}"))
        suite.timestamp = datetime.fromtimestamp(members[0].started, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        facts = {name: value for name, value in asdict(members[-1].where).items() if value}
        for name, value in {**facts, "what_it_is_not": WHAT_IT_IS_NOT[rung], "claim": claim(results)}.items():
            suite.add_property(name, visible(value))
        for each in members:
            suite.append(_case(each))
        for lost in results.lost:
            suite.add_property("lost", visible(lost))
        yield suite


def _case(result: Result) -> TestCase:
    words, name = _names(result.test)
    case = TestCase(
        visible(name), visible(".".join((result.rung, result.rig, *words))), round(result.seconds, 3)
    )
    for key, value in {
        **asdict(result.where),
        "outcome": result.outcome,
        "attempts": str(result.attempts),
        "needs": " ".join(result.needs),
    }.items():
        if value:
            case.add_property(key, visible(value))
    why, first = visible(result.why), _first_line(result.why)
    timeline = visible(text_timeline(result))
    if result.outcome == "failed":
        failure = Failure(first, "failed")
        failure.text = why
        case.result = [failure]
    elif result.outcome in ("blocked", "quarantined"):
        skipped = Skipped(f"{result.outcome}: {first}", result.outcome)
        skipped.text = why
        case.result = [skipped]
    elif result.outcome == "flaky":
        earlier = FlakyFailure(first, "flaky")
        earlier.stack_trace = why
        case.add_interim_result(earlier)
    if result.outcome == "flaky":
        timeline = f"The attempt that failed:\n{why}\n\n{timeline}"
    if timeline:
        case.system_out = timeline
    return case


def _names(test: str) -> tuple[list[str], str]:
    """What a node id says of the place of a test, and its name with the parameters, which may be any text."""
    place, bracket, parameters = test.partition("[")
    module, *classes, name = place.split("::") if "::" in place else (place, place)
    return [module.removesuffix(".py").replace("/", "."), *classes], f"{name}{bracket}{parameters}"


def _first_line(text: str) -> str:
    return next((visible(line.strip()) for line in text.splitlines() if line.strip()), "")


def _event(event: Event, start: float) -> str:
    values = "".join(f"  {name}={value}" for name, value in event.values.items())
    return f"{event.at - start:+10.3f}  {event.source:<8}  {event.text}{values}"
