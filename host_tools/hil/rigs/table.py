"""Tables of a rig file: what all of them have in common, and how one is read that comes in several kinds."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from host_tools.userfile import KeyPath, Problem, check_table, describe, did_you_mean, not_a_table, problem


class Table(BaseModel):
    """A table that knows all its keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


Kind = TypeVar("Kind", bound=Table)


def read_kind(
    table: object, path: KeyPath, kinds: Mapping[str, type[Kind]], what: str
) -> tuple[Kind | None, list[Problem]]:
    """The table at `path` as its `kind` has it, or all its problems. `what` is of which it is a kind."""
    if not isinstance(table, Mapping):
        return None, [not_a_table(path, table)]
    if "kind" not in table:
        text = f"this key is missing. Write one of: {', '.join(kinds)}."
        return None, [Problem((*path, "kind"), text, at=path)]
    kind = table["kind"]
    if not isinstance(kind, str) or kind not in kinds:
        remedy = did_you_mean(kind if isinstance(kind, str) else "", kinds)
        return None, [problem((*path, "kind"), f"unknown kind of {what} {describe(kind)}. {remedy}")]
    return check_table(kinds[kind], table, path)
