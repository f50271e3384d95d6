"""The options of commands that speak to nodes over a broker, and their way there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from host_tools.ca import CertificateAuthority
    from host_tools.telemetry.operator import Operator
    from host_tools.telemetry.reach import Place

FleetFile = Annotated[Path, typer.Option("--fleet", metavar="FILE", help="The fleet record.")]
FLEET = Path("fleet.db")
"""Where the record of a project is by default."""

NodeFile = Annotated[
    Path, typer.Option("--node", metavar="FILE", help="The node file: its brokers, its prefix.")
]
NODE = Path("node.toml")
"""Where the node file of a project is by default."""

Broker = Annotated[
    str | None,
    typer.Option(
        "--broker", metavar="HOST[:PORT]", help="Where this machine reaches the node file's broker."
    ),
]


@contextlib.contextmanager
def at_broker(authority: "CertificateAuthority", where: "list[Place]") -> Iterator["Operator"]:
    """An operator of this authority at the first of the brokers that answers. Raises LimpetError."""
    from host_tools.ca.operator import operator
    from host_tools.telemetry.reach import reach

    with operator(authority) as files, reach(where, files) as line:
        yield line
