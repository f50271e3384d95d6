"""The air around a virtual board: access points, and the state of its Wi-Fi station.

Modelled: scan, connect with right, wrong and no password, an access point that vanishes and returns
(the ESP32 tries again for ever, as its default is), an address after DHCP, and the numbers and errors that
MicroPython's ESP32 port makes of it (ports/esp32/network_wlan.c). Left out: signal strength
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

GATEWAY = "10.0.0.1"
"""The access point's router; it is the network's name server too."""

NOT_STARTED = "Wifi Not Started"
BUSY = "Wifi Internal Error"
"""Texts of the OSErrors that refuse a call."""

_LEFT = 8  # ESP-IDF's reason after disconnect()
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
        self.reset()

    def reset(self) -> None:
        """What a reset of the chip does: the radio is off and knows nothing."""
        self._active = False
        self.reconnects = -1  # times to try again after a failure; -1: for ever
        self._wanted: tuple[str, str] | None = None
        self._trying = False
        self._since = 0.0
        self._failures = 0
        self._joined: AccessPoint | None = None
        self._reason = 0  # why it was last disconnected; a success clears it, a new try does not

    def activate(self, on: bool | None) -> bool:
        if on is not None and bool(on) != self._active:
            reason = self._reason
            self.reset()
            self._active, self._reason = bool(on), reason
        return self._active

    @property
    def active(self) -> bool:
        return self._active

    def connect(self, ssid: str | None, password: str | None) -> str | None:
        """Begin to join; the text of the error, or None. A station that is still trying refuses."""
        if not self._active:
            return NOT_STARTED
        if self._trying and not self.is_up():
            return BUSY
        if ssid is not None:
            self._wanted = (ssid, password or "")
        self._joined, self._trying, self._failures, self._since = None, True, 0, self._now()
        return None

    def disconnect(self) -> str | None:
        """Leave, and stop trying; the text of the error, or None."""
        if not self._active:
            return NOT_STARTED
        if self._trying or self._joined:
            self._reason = _LEFT
        self._trying, self._joined = False, None
        return None

    def status(self) -> int:
        """The number that WLAN.status() gives."""
        self._catch_up()
        if self._joined is not None:
            return GOT_IP
        if self._reason in (NO_AP_FOUND, WRONG_PASSWORD):
            return self._reason
        if self._reason == _LEFT:
            return IDLE
        if self._trying:
            return CONNECTING
        return self._reason or IDLE

    def is_up(self) -> bool:
        return self.status() == GOT_IP

    def scan(self) -> list[AccessPoint]:
        return list(self.access_points) if self._active else []

    def describe(self) -> dict[str, object]:
        """What network.WLAN of the board asks for."""
        status = self.status()
        joined = self._joined
        wanted = self._wanted[0] if self._wanted else ""
        address = ["10.0.0.42", "255.255.255.0", GATEWAY, GATEWAY] if joined else ["0.0.0.0"] * 4
        return {
            "status": status,
            "rssi": joined.rssi if joined else 0,
            "ssid": wanted,
            "channel": joined.channel if joined else 1,
            "reconnects": self.reconnects,
            "mac": list(self.mac),
            "ifconfig": address,
        }

    def _catch_up(self) -> None:
        now = self._now()
        if self._joined is not None:
            if self._joined not in self.access_points:
                self._joined = None
                self._fail(BEACON_TIMEOUT)
        elif self._trying and self._wanted and now - self._since >= self.association_time:
            self._associate(*self._wanted)

    def _associate(self, ssid: str, password: str) -> None:
        named = [ap for ap in self.access_points if ap.ssid == ssid]
        if not named:
            self._fail(NO_AP_FOUND)
            return
        best = max(named, key=lambda ap: ap.rssi)
        if best.password is not None and best.password != password:
            self._fail(WRONG_PASSWORD)
            return
        self._joined, self._reason = best, 0

    def _fail(self, reason: int) -> None:
        self._reason = reason
        self._since = self._now()
        self._failures += 1
        self._trying = self.reconnects < 0 or self._failures <= self.reconnects


def auth_mode(access_point: AccessPoint) -> int:
    """The number for the authentication in a scan result."""
    return _AUTH_OPEN if access_point.password is None else _AUTH_WPA2
