"""How rotations are told: steps as they begin, and what came of them."""

from collections.abc import Callable, Sequence
from typing import Any

from host_tools.rotation.run import Outcome

_DIGITS = 16


class Lines:
    """A line for each step of each node."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def step(self, node_id: str, name: str) -> None:
        """A node begins something."""
        self._say(f"{node_id}: {name}")


def line(outcome: Outcome, trust: bool) -> str:
    """The line for a node with which all went well."""
    what = "trusts the authority's CAs" if trust else "has a new key"
    return (
        f"{outcome.node_id}: {what}; certificate {outcome.fingerprint[:_DIGITS]}…, "
        f"until {outcome.expires[:10]}"
    )


def as_json(outcomes: Sequence[Outcome], trust: bool, code: int) -> dict[str, Any]:
    """The command's result for --json; `error` has all sentences, when there are any."""
    failures = [outcome.error for outcome in outcomes if outcome.error]
    return {
        **({"error": "\n".join(failures)} if failures else {}),
        "exit_code": code,
        "trust": trust,
        "nodes": [outcome.values() for outcome in outcomes],
    }
