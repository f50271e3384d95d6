"""How the flashing of a board ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from host_tools import errors
from host_tools.flashing.guards import Found


@dataclass
class Outcome:
    """What is known of one board, at last how it ended."""

    port: str
    found: Found | None = None
    written: int = 0
    """Bytes that were written, or would be."""
    same: int = 0
    """Bytes that were there already."""
    proof: str | None = None
    """What the board said of what it runs."""
    error: str | None = None
    exit_code: int = errors.DONE
    _planned: bool = False

    def plan(self, write: int, same: int) -> None:
        """So much has to be written. A second attempt finds what the first one wrote; it still counts."""
        if not self._planned:
            self.written, self.same, self._planned = write, same, True

    def fail(self, error: str, exit_code: int) -> None:
        """It ended badly."""
        self.error = error
        self.exit_code = exit_code

    def values(self) -> dict[str, Any]:
        """As --json has it."""
        found = self.found
        return {
            "port": self.port,
            "chip": found.chip if found else None,
            "mac": (found.mac or None) if found else None,
            "flash_size": (found.flash_size or None) if found else None,
            "written": self.written,
            "same": self.same,
            "proof": self.proof,
            "error": self.error,
            "exit_code": self.exit_code,
        }


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """That of the command: the code that all failures have, else 1; 0 when there are none."""
    codes = {outcome.exit_code for outcome in outcomes} - {errors.DONE}
    if len(codes) > 1:
        return errors.FAILED
    return codes.pop() if codes else errors.DONE


def told(outcome: Outcome, dry_run: bool) -> str:
    """The line for a board with which all went well."""
    found = outcome.found
    who = f"{outcome.port}: {found.chip} {found.mac}" if found else outcome.port
    if dry_run:
        return f"{who}, would write {outcome.written} bytes; {outcome.same} are there"
    if not outcome.written:
        return f"{who}, nothing to write, all {outcome.same} bytes are there; runs {outcome.proof}"
    return (
        f"{who}, {outcome.written} bytes written and verified, {outcome.same} were there; "
        f"runs {outcome.proof}"
    )
