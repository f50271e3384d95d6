"""`limpet provision` from a blank board to its proof, by step; and of several boards side by side."""

import json
import time
from typing import Any

from tests.bench.ground import Ground
from tests.bench.table import Row, number
from tests.host.provisioning import Site
from tests.host.virtual_rig import Rig

_COUNT = 4
_SIDE_BY_SIDE = 0.5
_STEPS = {
    "its process, the bootloader": ("detect", "guard"),
    "flash": ("flash",),
    "key and request, made on the node": ("boot", "key"),
    "certificate": ("certificate",),
    "certificates and settings onto the node": ("install", "settings", "start"),
    "restart, Wi-Fi, time, TLS, first publish": ("proof", "in service"),
}
_NOTE = (
    "`limpet provision` of blank virtual boards behind RFC 2217, from the start of the command to its end, "
    "with an authority, Mosquitto and a time server on the same machine. The lines are paced, at 921,600 "
    "baud for flashing and 115,200 baud for the REPL. What is flashed is the virtual board's image, without "
    "MicroPython's program; the board computes its key at this machine's speed."
)


def rows(ground: Ground) -> list[Row]:
    folder = ground.folder / "provisioning"
    folder.mkdir()
    with Site(folder) as site:
        alone = [_provision(site, [site.board(paced=True)]) for _ in range(_COUNT)]
        together, _ = _provision(site, [site.board(paced=True) for _ in range(_COUNT)])
    one_by_one = sum(seconds for seconds, _ in alone)
    steps = [values["seconds"] for _, [values] in alone]
    by_step = [
        Row(
            f"of that: {name}",
            sum(each[step] for each in steps for step in names) / _COUNT,
            "s",
            ", ".join(names),
            note=_NOTE,
        )
        for name, names in _STEPS.items()
    ]
    return [
        Row("a board from blank to its proof at the broker", one_by_one / _COUNT, "s", note=_NOTE),
        *by_step,
        Row(
            f"{_COUNT} boards from blank to proof side by side",
            together,
            "s",
            f"one after the other: {number(one_by_one)} s",
            together / one_by_one,
            f"at most {_SIDE_BY_SIDE}×",
            together <= _SIDE_BY_SIDE * one_by_one,
            _NOTE,
        ),
    ]


def _provision(site: Site, rigs: list[Rig]) -> tuple[float, list[dict[str, Any]]]:
    """How long the command took, and what it says of the boards, which it leaves in the dark."""
    ports = [word for rig in rigs for word in ("--port", rig.url)]
    began = time.monotonic()
    done = site.limpet(*site.words("--json", *ports))
    took = time.monotonic() - began
    if done.code:
        raise SystemExit(f"limpet provision ended with {done.code}:\n{done.err}")
    for rig in rigs:
        rig.power_off()
    return took, json.loads(done.out)["boards"]
