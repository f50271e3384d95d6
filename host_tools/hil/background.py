"""Something that happens beside the test, and does not outlive it."""

import threading
from collections.abc import Callable


class Background:
    """Runs `work` in a thread of its own. It gets an event, and returns soon after that is set."""

    def __init__(self, work: Callable[[threading.Event], None], name: str) -> None:
        self._work = work
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def done(self, seconds: float) -> bool:
        """Wait so long for its end, and end it then; whether it ended by itself. Raises what it raised."""
        self._thread.join(seconds)
        ended = not self._thread.is_alive()
        self.end()
        return ended

    def end(self) -> None:
        """Have it end now. Raises what it raised."""
        self._stop.set()
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            self._work(self._stop)
        except Exception as error:
            self._error = error
