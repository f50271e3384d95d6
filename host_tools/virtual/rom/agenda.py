"""What comes of one request, and when: a chip that waits for its flash answers late."""

from collections.abc import Callable

from host_tools.virtual.rom import slip


class Agenda:
    """Collects in order what is to be sent and done, and the time that it takes."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._items: list[tuple[float, Callable[[], None]]] = []
        self._now = 0.0

    def spend(self, seconds: float) -> None:
        """What follows happens so much later."""
        self._now += seconds

    def say(self, *frames: bytes) -> None:
        """Send frames to the host, in one go."""
        data = b"".join(map(slip.encode, frames))
        self.then(lambda: self._send(data))

    def then(self, action: Callable[[], None]) -> None:
        """Do something when everything before it is sent."""
        self._items.append((self._now, action))

    def take(self) -> tuple[float, list[tuple[float, Callable[[], None]]]]:
        """The seconds that all takes, and the items, each with its time from now; empties the agenda."""
        taken = self._now, self._items
        self._now, self._items = 0.0, []
        return taken
