"""A place of a labgrid lab, held for the length of a run."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from host_tools.hil.blocked import Blocked
from host_tools.hil.board.protocol import Power
from host_tools.hil.lab.client import Client
from host_tools.hil.lab.keeper import Keeper
from host_tools.hil.lab.shown import Shown, parse_reservation, parse_show
from host_tools.hil.lab.waiting import user_of_run, wait
from host_tools.hil.rigs import Place
from host_tools.hil.who import user


@dataclass(frozen=True)
class PlacePort:
    """What a place has for us."""

    url: str
    """Its serial port, for pyserial."""
    power: Power | None
    """Its supply, where labgrid can switch it."""


class PlacePower:
    """The supply of a place that is ours."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def on(self) -> None:
        self._client.run("power", "on")

    def off(self) -> None:
        self._client.run("power", "off")


@contextlib.contextmanager
def place(spec: Place, on_wait: Callable[[str], object], wait_s: float = 3600.0) -> Iterator[PlacePort]:
    """Hold a place of a lab, by a reservation, so that those who wait come in turn.

    To labgrid each run is a user of its own (`alice-limpet-4711-09af`), so that two runs of one user do not
    take the place from each other. What the user has acquired by hand is used as it is, and left acquired.
    `on_wait` gets a sentence whenever it is somebody else that we wait for, and when the place could not be
    given back at the end.

    Raises Blocked when the place is not ours within `wait_s` seconds, when there is no such place, no
    coordinator or no labgrid-client, and when the place has no serial port that we can use.
    """
    ourselves = os.environ.get("LG_USERNAME") or user()
    by_hand = Client(spec, ourselves)
    shown = _shown(by_hand)
    if shown.acquired == by_hand.identity:
        yield _port(by_hand, shown)
        return
    client = Client(spec, user_of_run(ourselves, os.getpid(), secrets.token_hex(2)))
    reservation = parse_reservation(client.run("reserve", f"name={client.place}"))
    keeper = Keeper(client, reservation.token)
    try:
        if not reservation.has_place:
            wait(client, reservation.token, on_wait, wait_s)
        client.run("acquire")
        yield _port(client, _shown(client))
    finally:
        done = keeper.end()
        if done.code:
            on_wait(
                f"{client.refusal(done, 'release')} The place may still be ours: give it back with "
                f"'{client.release_command(client.identity)}'."
            )


def _shown(client: Client) -> Shown:
    shown = parse_show(client.run("show"))
    if shown.name != client.place:  # labgrid takes part of a name for the whole
        raise Blocked(
            f"The lab at {client.coordinator} has no place '{client.place}', but '{shown.name}': name that "
            "in the rig file."
        )
    return shown


def _port(client: Client, shown: Shown) -> PlacePort:
    return PlacePort(shown.url, PlacePower(client) if shown.has_power else None)
