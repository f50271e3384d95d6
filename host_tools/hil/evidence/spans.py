"""What lasted: from the words of the timeline, when the supply was off, the link cut, a sensor broken."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from host_tools.hil.timeline import Event

_BEGINS = {
    ("power", "off"): "off",
    ("power", "failed"): "off",
    ("link", "cut"): "cut",
    ("link", "refuse"): "refuses",
    ("link", "latency"): "latency",
    ("link", "loss"): "loss",
    ("link", "throttle"): "throttled",
    ("link", "Wi-Fi off"): "Wi-Fi off",
    ("link", "names fail"): "no names",
    ("broker", "stopped"): "stopped",
    ("broker", "killed"): "stopped",
    ("broker", "paused"): "paused",
    ("node", "its port is lent"): "port lent",
}
_ENDS = {
    ("power", "on"): {"off"},
    ("link", "restore"): {"cut", "refuses"},
    ("link", "Wi-Fi on"): {"Wi-Fi off"},
    ("link", "names ok"): {"no names"},
    ("broker", "started"): {"stopped", "paused"},
    ("broker", "resumed"): {"paused"},
    ("node", "its port is ours again"): {"port lent"},
    ("link", "clear"): {what for (source, _), what in _BEGINS.items() if source == "link"},
}
_MOMENTS = {"clock": ("set", "jump"), "stimulus": ("set", "is")}
"""What is over as soon as it is told; any other word of these sources names a fault, or its end."""
_SOUND = ("honest", "clear", "sound", "cleared")


@dataclass(frozen=True)
class Span:
    """Between `start` and `end`, in seconds since 1970, this was so."""

    source: str
    what: str
    start: float
    end: float


def spans(events: Iterable[Event], end: float) -> list[Span]:
    """All that lasted, in the order in which it began; what never ended lasts until `end`."""
    lasting: dict[tuple[str, str], float] = {}
    found: list[Span] = []
    for event in events:
        for key in [key for key in lasting if _ends(event, *key)]:
            found.append(Span(*key, lasting.pop(key), event.at))
        for what in _begun_by(event):
            lasting.setdefault((event.source, what), event.at)
    found += (Span(*key, start, max(start, end)) for key, start in lasting.items())
    return sorted(found, key=lambda span: (span.start, span.source, span.what))


def _begun_by(event: Event) -> Iterator[str]:
    """A latency of 0, a loss of 0 is none."""
    what = _BEGINS.get((event.source, event.text))
    if what and (not event.values or any(event.values.values())):
        yield what
    if _is_fault(event) and not event.text.endswith(_SOUND):
        yield event.text


def _ends(event: Event, source: str, what: str) -> bool:
    """Also when it begins anew, with other values."""
    if event.source != source:
        return False
    word = event.text.partition(";")[0]
    if what in _ENDS.get((source, word), ()) or _BEGINS.get((source, word)) == what:
        return True
    subject = what.rpartition(": ")[0]
    return _is_fault(event) and (event.text == "cleared" or event.text.rpartition(": ")[0] == subject)


def _is_fault(event: Event) -> bool:
    return event.source in _MOMENTS and event.text not in _MOMENTS[event.source]
