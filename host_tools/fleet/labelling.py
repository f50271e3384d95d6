"""Labels as files."""

from collections.abc import Sequence
from pathlib import Path

from host_tools.errors import LimpetError
from host_tools.fleet import labels
from host_tools.fleet.record import Node

_FILES = {"sheet": ("labels.html", labels.sheet), "csv": ("labels.csv", labels.as_csv)}
_FOLDER = Path("labels")


def write(nodes: Sequence[Node], form: str, output: Path | None) -> list[Path]:
    """Write the labels of `nodes` as `form`: "svg" or "png" into a folder, "sheet" or "csv" into a file.

    Gives what was written. Raises LimpetError when a node has no certificate yet, or that cannot be written.
    """
    if not nodes:
        raise LimpetError("There is no node to make a label for: provision one first.")
    for node in nodes:
        if not node.fingerprint:
            raise LimpetError(
                f"The node '{node.node_id}' has no certificate yet: finish provisioning it first."
            )
    if form in _FILES:
        name, make = _FILES[form]
        files = {output or Path(name): make(nodes).encode()}
    else:
        folder = output or _FOLDER
        drawn = {
            node.node_id: labels.png(node) if form == "png" else labels.svg(node).encode() for node in nodes
        }
        files = {folder / f"{node_id}.{form}": data for node_id, data in drawn.items()}
    for path, data in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise LimpetError(f"{path} cannot be written: {error.strerror}.") from None
    return list(files)
