"""The test of the suite: breakages of the firmware, each of which it must catch (docs/hil.md)."""

from host_tools.hil.mutate.catalogue import Catalogue, Mutant, load
from host_tools.hil.mutate.run import Order, Report, mutate
from host_tools.hil.mutate.verdict import Verdict

__all__ = ["Catalogue", "Mutant", "Order", "Report", "Verdict", "load", "mutate"]
