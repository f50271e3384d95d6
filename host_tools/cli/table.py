"""How commands print a table: as wide as it must be, so that nothing is cut off for whoever reads it."""

from rich.console import Console
from rich.table import Table

_ANY = 10_000  # columns: more than a table needs


def show_table(table: Table) -> None:
    """Print it on standard output."""
    needed = Console(width=_ANY).measure(table).maximum
    console = Console(highlight=False)
    console.width = max(console.width, needed)
    console.print(table)
