"""Which node a board becomes. Pure."""

import re
from dataclasses import dataclass

from host_tools.errors import UsageError
from host_tools.fleet import IN_SERVICE, Node
from host_tools.fleet.ids import ids
from host_tools.pki.names import is_node_id

USUAL = "node-{n:03}"
"""The pattern of ids when none was given."""
_PLACE = re.compile(r"\{n[^{}]*\}")


@dataclass(frozen=True)
class Naming:
    """What the user said of ids: one of the three."""

    pattern: str | None = None
    """Such as `line3-{n:03}`: each board gets the next one, unless it has one."""
    node_id: str | None = None
    """For one board alone."""
    replace: str | None = None
    """The id of a node whose board is replaced by this one."""

    @classmethod
    def checked(cls, node_id: str | None, pattern: str | None, replace: str | None, boards: int) -> "Naming":
        """For so many boards; 0 for any number. Raises UsageError."""
        given = [each for each in (node_id, pattern, replace) if each is not None]
        if len(given) > 1:
            raise UsageError("Name the node by --id, by --ids or by --replace: one of the three.")
        for option, name in (("--id", node_id), ("--replace", replace)):
            if name is None:
                continue
            if not is_node_id(name):
                raise UsageError(
                    f"{option} {name!r} is no node id: use 1 to 32 letters, digits and '-', beginning with "
                    "a letter or digit."
                )
            if boards != 1:
                raise UsageError(f"{option} names one node: give one --port, or a pattern by --ids.")
        if node_id is None and replace is None:
            pattern = pattern or USUAL
            next(ids(pattern))
        return cls(pattern, node_id, replace)

    def means(self, node_id: str) -> bool:
        """Whether a node with this id may be what the user named."""
        if self.pattern is None:
            return node_id in (self.node_id, self.replace)
        before, after = map(re.escape, _PLACE.split(self.pattern))
        return re.fullmatch(f"{before}[0-9]+{after}", node_id) is not None


def refusal(holder: Node | None, naming: Naming) -> str | None:
    """Why a board that is the node `holder` already must not become what was named, and what to do."""
    if holder is None or naming.means(holder.node_id):
        return None
    if holder.state != IN_SERVICE and naming.pattern is not None:
        return None  # it is finished under the id that was taken for it
    since = f" since {holder.provisioned_at[:10]}" if holder.state == IN_SERVICE else ""
    return (
        f"the board {holder.mac} is the node '{holder.node_id}', {holder.state}{since}: run `limpet "
        f"decommission {holder.node_id}` first, or name that node."
    )


def is_done(holder: Node | None, naming: Naming) -> bool:
    """Whether a board is in service already as what was named, and shall stay so."""
    return holder is not None and holder.state == IN_SERVICE and naming.replace != holder.node_id
