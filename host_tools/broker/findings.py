"""What a check of a broker comes to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from host_tools.errors import LimpetError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    passed: bool | None
    """None: it could not be tried; `why` says what that takes."""
    why: str = ""

    def line(self) -> str:
        """It as a line for people."""
        word = {True: "passed", False: "FAILED", None: "not tried"}[self.passed]
        return f"{word:9}  {self.what}" + (f": {self.why}" if self.why else "")


class NotTriedError(LimpetError):
    """It takes something that this machine has not."""


def looked_at(what: str, look: Callable[[], None]) -> Finding:
    """Passed if `look` returns, failed with its words for LimpetError, not tried for NotTriedError."""
    try:
        look()
    except NotTriedError as error:
        return Finding(what, None, str(error))
    except LimpetError as error:
        return Finding(what, False, str(error))
    return Finding(what, True)


def has_failed(findings: Iterator[Finding] | list[Finding]) -> bool:
    """Whether one of them failed."""
    return any(each.passed is False for each in findings)
