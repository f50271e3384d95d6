"""What a run of the tests on a mutant says: caught, and by which test, or not."""

from collections.abc import Sequence
from dataclasses import dataclass

from host_tools.hil.children import Ended
from host_tools.hil.mutate.catalogue import Mutant


@dataclass(frozen=True)
class Verdict:
    """`caught` is the test that failed on the mutant. None when none did: `survived`, or there is no verdict,
    and `why` says which in a few words."""

    mutant: Mutant
    caught: str | None = None
    survived: bool = False
    why: str = ""

    @property
    def wants_a_new_hint(self) -> bool:
        """Whether another test than those of `catches` has caught it."""
        return self.caught is not None and not named_by(self.mutant.catches, [self.caught])

    @property
    def text(self) -> str:
        """In a line."""
        name = self.mutant.name
        if self.caught is None:
            return f"{name}: {self.why}"
        if self.wants_a_new_hint and self.mutant.catches:
            return f"{name}: caught by {self.caught}, and not by what 'catches' names"
        return f"{name}: caught by {self.caught}"


def judge(mutant: Mutant, ended: Ended) -> Verdict:
    """The verdict of a run of tests on a mutant."""
    last = {each.test: each for each in ended.results}  # of several attempts
    for each in last.values():
        if each.outcome == "failed":
            return Verdict(mutant, each.test)
    if ended.broken:
        return Verdict(mutant, why=f"no verdict ({ended.broken.rstrip('.')})")
    ran = [each for each in last.values() if each.outcome != "blocked"]
    if not ran:
        return Verdict(mutant, why="no verdict (no test could run)")
    blocked = len(last) - len(ran)
    where = f", where {blocked} of {len(last)} tests were blocked" if blocked else ""
    return Verdict(mutant, survived=True, why=f"survived{where}")


def named_by(hints: Sequence[str], tests: Sequence[str]) -> list[str]:
    """Those of the tests that a hint names: as a whole, or without its parameters."""
    return [test for test in tests if test in hints or test.partition("[")[0] in hints]
