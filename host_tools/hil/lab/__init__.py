"""Boards of a lab with many hosts, by way of labgrid: its coordinator, exporters, places and reservations.

labgrid brings a pyserial of its own making, which would replace ours: so it lives in an environment of its
own, and is used through its program labgrid-client (docs/lab.md).
"""

from host_tools.hil.lab.client import VARIABLE
from host_tools.hil.lab.place import PlacePort, place

__all__ = ["VARIABLE", "PlacePort", "place"]
