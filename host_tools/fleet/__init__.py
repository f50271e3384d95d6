"""The fleet record, an SQLite file of the user's: which board is which node, and how it came to be that."""

from host_tools.fleet.database import Fleet
from host_tools.fleet.record import CLAIMED, IN_SERVICE, RETIRED, Entry, FleetError, Node, Record

__all__ = ["CLAIMED", "IN_SERVICE", "RETIRED", "Entry", "Fleet", "FleetError", "Node", "Record"]
