"""Labels of the nodes that a run has brought into service."""

from collections.abc import Sequence
from pathlib import Path

from host_tools.fleet import Fleet
from host_tools.fleet.labelling import write
from host_tools.provisioning.outcome import Outcome

_FORMS = {".csv": "csv", ".html": "sheet"}
_OTHERWISE = "svg"


def label(path: Path, outcomes: Sequence[Outcome], fleet: Fleet) -> None:
    """Write the labels of all nodes that are in service now, by the ending of `path`: .csv, .html or none.

    Raises LimpetError when they cannot be written.
    """
    ids = dict.fromkeys(each.node_id for each in outcomes if each.node_id and not each.error)
    nodes = [node for node in map(fleet.node, ids) if node is not None]
    if nodes:
        write(nodes, _FORMS.get(path.suffix.lower(), _OTHERWISE), path)
