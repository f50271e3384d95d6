"""The results as one page that needs nothing else: no network, no script, no bench.

What boards said is in it, and that is anybody's text. All of it is escaped; should that ever fail, the page's
own policy forbids every script, and every style but its own.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from host_tools.hil.evidence.collect import Results
from host_tools.hil.evidence.figure import SOURCES, Figure, figure_of
from host_tools.hil.evidence.matrix import matrix_of
from host_tools.hil.evidence.record import Outcome, Result
from host_tools.hil.evidence.summary import MEANING, WHAT_IT_IS_NOT, claim, summary
from host_tools.hil.evidence.visible import visible

_WITH_EVIDENCE: tuple[Outcome, ...] = ("failed", "flaky", "quarantined")
_DIGITS = 12
"""Of a hash: enough to compare by eye; all of them are in its tooltip and in results.json."""


@dataclass(frozen=True)
class Case:
    """A test that failed, at least once."""

    id: str
    result: Result
    figure: Figure | None


def html_report(results: Results) -> str:
    """The page."""
    cases = [Case(f"f{number}", each, figure_of(each)) for number, each in enumerate(_failures(results), 1)]
    blocked = [each for each in results if each.outcome == "blocked"]
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    page = _environment().get_template("page.html.j2")
    return page.render(
        style=Markup(style),
        policy=f"default-src 'none'; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'",
        claim=claim(results),
        counts=summary(results),
        total=len(results),
        meaning=MEANING,
        is_not=WHAT_IT_IS_NOT,
        sources=SOURCES,
        matrix=matrix_of(results),
        cases=cases,
        blocked=blocked,
        anchors={_key(case.result): case.id for case in cases}
        | {_key(each): f"b{number}" for number, each in enumerate(blocked, 1)},
        firmwares={each.firmware_sha256 for each in results if each.firmware_sha256},
        lost=results.lost,
        begun=min((each.started for each in results), default=None),
        ended=max((each.started + each.seconds for each in results), default=None),
    )


def _failures(results: Results) -> list[Result]:
    """Those that count most come first."""
    found = [each for each in results if each.outcome in _WITH_EVIDENCE]
    return sorted(found, key=lambda each: _WITH_EVIDENCE.index(each.outcome))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": _moment, "duration": _duration, "short": _short, "key": _key}
    return environment


def _shown(value: object) -> object:
    """Of everything that the template writes: it is escaped after that."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _key(result: Result) -> tuple[str, str, str]:
    return result.test, result.rung, result.rig


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    """As people say it: 0.25 s, 12.3 s, 4 min 05 s."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"


def _short(digest: str) -> str:
    return digest[:_DIGITS]


def _hash(style: str) -> str:
    """As a content security policy names what it allows (CSP Level 3)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
