"""Virtual boards for code that has no event loop: tests, the demo, the command line."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

T = TypeVar("T")

_PATIENCE = 30.0
"""Seconds after which a call into the loop has failed. Nothing in it takes a tenth of that."""


class Bench:
    """An event loop in a thread of its own, for the boards that stand on it. Use it as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="virtual bench", daemon=True)
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for close in reversed(self._closers):
                self.run(close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_PATIENCE)
            self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of a board and wait for its end. Raises TimeoutError after 30 s."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_PATIENCE)

    def call(self, function: Callable[[], T]) -> T:
        """Call a plain function inside the loop, where the boards' state may be touched."""

        async def inside() -> T:
            return function()

        return self.run(inside())

    def on_close(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have this coroutine run when the bench is left; the last one first."""
        self._closers.append(close)
