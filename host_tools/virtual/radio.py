"""The air around a virtual board: access points, and the state of its Wi-Fi station.

Modelled: scan, connect with right, wrong and no password, an access point that vanishes and returns
(the ESP32 reconnects by itself, as its default is), an address after DHCP. Left out: signal strength
that varies, channels that disturb each other, roaming, power saving.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

IDLE = 1000
CONNECTING = 1001
GOT_IP = 1010
BEACON_TIMEOUT = 200
NO_AP_FOUND = 201
WRONG_PASSWORD = 202

_AUTH_OPEN = 0
_AUTH_WPA2 = 3


@dataclass
class AccessPoint:
    """One network in reach. `password` None is an open network; `rssi` in dBm."""

    ssid: str
    password: str | None = field(default=None, repr=False)
    bssid: bytes = b"\x02\x00\x00\x00\x00\x01"
    channel: int = 6
    rssi: int = -58


class Station:
    """The station interface (network.WLAN) of one board. `now` gives seconds of a monotonic clock."""

    association_time = 0.15
    """Seconds from connect() to an address; a real one takes 1 to 4 s."""

    def __init__(self, mac: bytes, access_points: list[AccessPoint], now: Callable[[], float]) -> None:
        self.mac = mac
        self.access_points = access_points
        self._now = now
        self._active = False
        self._wanted: tuple[str, str] | None = None
        self._since = 0.0
        self._joined: AccessPoint | None = None
        self._status = IDLE

    def reset(self) -> None:
        """What a reset of the chip does: the radio is off and knows nothing."""
        self._active, self._wanted, self._joined, self._status = False, None, None, IDLE

    def activate(self, on: bool | None) -> bool:
        if on is not None and bool(on) != self._active:
            self.reset()
            self._active = bool(on)
        return self._active

    @property
    def active(self) -> bool:
        return self._active

    def connect(self, ssid: str | None, password: str | None) -> bool:
        """Begin to join; False when the interface is not active."""
        if not self._active:
            return False
        if ssid is not None:
            self._wanted = (ssid, password or "")
        self._joined, self._status, self._since = None, CONNECTING, self._now()
        return True

    def disconnect(self) -> None:
        self._wanted, self._joined, self._status = None, None, IDLE

    def status(self) -> int:
        """The number that WLAN.status() gives."""
        if self._joined is not None and self._joined not in self.access_points:
            self._joined, self._status, self._since = None, BEACON_TIMEOUT, self._now()
        elif self._wanted and self._joined is None and self._now() - self._since >= self.association_time:
            self._associate(*self._wanted)
        return self._status

    def is_up(self) -> bool:
        return self.status() == GOT_IP

    def scan(self) -> list[AccessPoint]:
        return list(self.access_points) if self._active else []

    def describe(self) -> dict[str, object]:
        """What network.WLAN of the board asks for."""
        status = self.status()
        joined = self._joined
        address = ["10.0.0.42", "255.255.255.0", "10.0.0.1", "10.0.0.1"] if joined else ["0.0.0.0"] * 4
        return {
            "status": status,
            "rssi": joined.rssi if joined else 0,
            "ssid": joined.ssid if joined else "",
            "channel": joined.channel if joined else 0,
            "mac": list(self.mac),
            "ifconfig": address,
        }

    def _associate(self, ssid: str, password: str) -> None:
        self._since = self._now()
        named = [ap for ap in self.access_points if ap.ssid == ssid]
        if not named:
            self._status = NO_AP_FOUND
            return
        best = max(named, key=lambda ap: ap.rssi)
        if best.password is not None and best.password != password:
            self._status = WRONG_PASSWORD
            return
        self._joined, self._status = best, GOT_IP


def auth_mode(access_point: AccessPoint) -> int:
    """The number for the authentication in a scan result."""
    return _AUTH_OPEN if access_point.password is None else _AUTH_WPA2
