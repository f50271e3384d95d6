"""The link between a node and the broker, and all that can happen to it."""

import math
from dataclasses import replace
from typing import Protocol, Self

from host_tools.errors import LimpetError, UsageError
from host_tools.hil.blocked import Blocked
from host_tools.hil.board import Radio
from host_tools.hil.timeline import Timeline
from host_tools.virtual import link as proxy
from host_tools.virtual.link import Conditions, Connection, Cut, Side, Tap

_NOWHERE = ("127.0.0.1", 0)


class Server(Protocol):
    """What a link can lead to: a Witness."""

    @property
    def target(self) -> tuple[str, int]:
        """Where this machine reaches it."""

    @property
    def tap(self) -> Tap:
        """Is told all that passes."""


class Link:
    """Use it as a context manager. Nodes connect to `port` at `address`, one of this machine's, and reach the
    server that it leads to; before `lead_to`, nobody is there.

    It carries TCP: what it can do and cannot is told at `host_tools.virtual.link`. `radio` is the air around
    the board, if that is ours.
    """

    def __init__(self, timeline: Timeline, *, address: str = "127.0.0.1", radio: Radio | None = None) -> None:
        self.address = address
        self._timeline = timeline
        self._radio = radio
        self._proxy = proxy.Link(*_NOWHERE, address=address)

    def __enter__(self) -> Self:
        """Listen. Raises LimpetError when the address is none of this machine's."""
        try:
            self._proxy.__enter__()
        except OSError:
            raise LimpetError(
                f"The link cannot listen at {self.address}: "
                "give the rig an address of this machine as 'host'."
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.__exit__()

    def lead_to(self, server: Server) -> None:
        """Lead the connections to come to this server."""
        self._proxy.target, self._proxy.tap = server.target, server.tap

    @property
    def port(self) -> int:
        """Where nodes connect; the same as long as the link exists."""
        return self._proxy.port

    @property
    def target(self) -> tuple[str, int]:
        """Where connections go."""
        return self._proxy.target

    @property
    def connections(self) -> list[Connection]:
        """All that there were, oldest first."""
        return self._proxy.connections

    # The link's faults

    def cut(self) -> None:
        """Until `restore` nothing passes and nothing is closed; new connections are neither taken nor
        refused."""
        self._tell("cut")
        self._proxy.blackout()

    def refuse(self) -> None:
        """Until `restore` new connections are refused. Those that there are go on."""
        self._tell("refuse")
        self._proxy.refuse()

    def restore(self) -> None:
        """End `cut` or `refuse`."""
        self._proxy.restore()
        self._tell("restore")

    def reset(self) -> None:
        """Break every connection with RST to both sides."""
        self._tell("reset")
        self._proxy.reset()

    def half_open(self, told: Side | None = None) -> None:
        """Forget every connection: nothing of it passes for good, and only the side that is `told`, "client"
        (the node) or "server", hears of it."""
        self._tell("half-open", told=told or "nobody")
        self._proxy.half_open(told)

    def break_next(self, *cuts: Cut) -> None:
        """Break the next connections, each at one of these places in its stream of TLS records."""
        self._tell("break next", connections=len(cuts))
        self._proxy.cut_next(*cuts)

    def latency(self, seconds: float) -> None:
        """Delay everything by so much, each way. Raises UsageError for less than 0."""
        _within("latency", seconds, 0, math.inf)
        self._set("latency", latency=seconds)

    def loss(self, fraction: float) -> None:
        """Lose so much of what passes, 0 to 1, as TCP shows it: it stalls for 0.1 to 1 s, and what is behind
        it waits too. Raises UsageError for another fraction."""
        _within("loss", fraction, 0, 1)
        self._set("loss", stall_chance=fraction)

    def throttle(self, bytes_per_s: float) -> None:
        """Pass no more than that, each way of each connection; 0 is no limit. Raises UsageError for less."""
        _within("throttle", bytes_per_s, 0, math.inf)
        self._set("throttle", rate=bytes_per_s)

    def clear(self) -> None:
        """End every fault that lasts: the link's, and with a radio of ours those of Wi-Fi and name server.
        What `name` has named is forgotten."""
        self._proxy.cut_next()
        self._proxy.conditions = Conditions()
        self._proxy.restore()
        if self._radio is not None:
            self._radio.names.fault = None
            self._radio.names.names.clear()
            self._radio.on()
        self._tell("clear")

    # The air's faults

    def wifi_off(self) -> None:
        """Take the node's access point away. This and what follows: Blocked where the air is not ours."""
        self._air().off()
        self._tell("Wi-Fi off")

    def wifi_on(self) -> None:
        """Bring it back, with the password that it had at first."""
        self._air().on()
        self._tell("Wi-Fi on")

    def wifi_password(self, text: str | None) -> None:
        """Change its password, or open it to all with None; whoever has joined is dropped."""
        self._air().password(text)
        self._tell("another Wi-Fi password")

    def name(self, host: str) -> None:
        """Have the node's name server give the link's address for this name, until `clear`."""
        self._air().names.names[host] = [self.address]
        self._tell("name", host=host)

    def names_fail(self, fault: str) -> None:
        """Make the name server bad: one of `host_tools.virtual.name_server.FAULTS`.

        Raises LimpetError for another word.
        """
        self._air().names.fault = fault
        self._tell("names fail", fault=fault)

    def names_ok(self) -> None:
        """Make it good again."""
        self._air().names.fault = None
        self._tell("names ok")

    def _air(self) -> Radio:
        if self._radio is None:
            raise Blocked(
                "The rig's Wi-Fi and name server are not ours: use a rig that has 'wifi' and 'dns'."
            )
        return self._radio

    def _set(self, text: str, **change: float) -> None:
        self._proxy.conditions = replace(self._proxy.conditions, **change)  # type: ignore[arg-type]
        self._tell(text, **change)

    def _tell(self, text: str, **values: float | int | str) -> None:
        self._timeline.add("link", text, **values)


def _within(what: str, value: float, least: float, most: float) -> None:
    if not (least <= value <= most and math.isfinite(value)):
        wanted = f"a number from {least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
        raise UsageError(f"A {what} of {value:g}: give {wanted}.")
