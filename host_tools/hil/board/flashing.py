"""Flashing a bench board: its whole image, its own identity, and what is told meanwhile."""

from collections.abc import Iterator
from dataclasses import dataclass

from host_tools.flashing import run
from host_tools.flashing.crew import crew
from host_tools.flashing.guards import Allowed, Found
from host_tools.flashing.job import BAUDS, Consent
from host_tools.flashing.outcome import Outcome
from host_tools.flashing.source import checked
from host_tools.hil.board.image import NodeImage
from host_tools.hil.errors import HilError
from host_tools.hil.timeline import Timeline


def flash(port: str, image: NodeImage, mac: str, timeline: Timeline) -> str:
    """Flash what differs, verify it, and see it start; the board's MAC address. `mac` is the one that it must
    have, if that is known.

    Raises HilError when it does not come to that.
    """
    # The identity is in no file, so it is not in the image that the flashing process reads.
    order = run.Order(
        checked(image.flash(with_identity=False), "the node's image", image.board),
        Allowed(image.board, macs=[mac] if mac else []),
        BAUDS,
        consent=lambda _: Consent(own=tuple(_own(image))),
    )
    with crew([port]) as workers:
        [outcome] = run.flash(workers, order, None, _Told(timeline))
    if outcome.error is not None:
        raise HilError(outcome.error)
    assert isinstance(outcome.found, Found)
    return outcome.found.mac


def _own(image: NodeImage) -> Iterator[tuple[int, bytes]]:
    """What flashing otherwise leaves to the node: its identity, and a blank spool."""
    for place in image.board.partition_table():
        if place.name in ("identity", "spool"):
            data = image.identity if place.name == "identity" else b""
            yield place.offset, data.ljust(place.size, b"\xff")


@dataclass(frozen=True)
class _Told:
    """Puts the steps into the timeline."""

    timeline: Timeline

    def step(self, port: str, name: str) -> None:
        self.timeline.add("node", f"flashing: {name}")

    def progress(self, port: str, done: int, total: int) -> None:
        """No bar: nobody looks."""

    def remark(self, port: str, text: str) -> None:
        self.timeline.add("node", f"flashing: {text}")

    def end(self, outcome: Outcome) -> None:
        self.timeline.add("node", "flashing: ended", written=outcome.written, same=outcome.same)
