"""Node files: the TOML that a user writes for a node, checked, and made into the JSON that the node reads.

docs/node-file.md describes the file, docs/node.example.toml is one.
"""

from host_tools.settings.export import dump, to_node_json
from host_tools.settings.load import Checked, check, load
from host_tools.settings.model import NodeFile

__all__ = ["Checked", "NodeFile", "check", "dump", "load", "to_node_json"]
