"""A deadline for a call into code that has none of its own: a token's module, the keyring of the desktop."""

import threading
from collections.abc import Callable
from typing import TypeVar

from host_tools.errors import LimpetError

_T = TypeVar("_T")


def within(seconds: float, what: str, call: Callable[[], _T]) -> _T:
    """The result of `call`, which another thread makes; its exceptions are passed on.

    Raises LimpetError, with `what` as the subject of the sentence, when there is none after `seconds`. The
    thread cannot be ended; it is left behind, and goes with the process.
    """
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # whatever it is, the caller is told
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise LimpetError(f"{what} did not answer within {seconds:g} s: see whether it waits for something.")
    return results[0]
