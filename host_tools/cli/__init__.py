"""The `limpet` command: one module a noun has its words and their help; other packages do the work.

Those are imported when a command runs, for `limpet --help` must not wait for them.
"""

from host_tools.cli import (  # noqa: F401  (each adds its commands, in the order of the help)
    boards,
    broker,
    ca,
    config,
    decommission,
    demo,
    deploy,
    devices,
    doctor,
    flash,
    fleet,
    hil,
    image,
    monitor,
    provision,
    rotate,
    secure,
    spool,
    virtual,
)
from host_tools.cli.app import run

__all__ = ["run"]
