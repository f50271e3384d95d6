"""The Wi-Fi network that a rig's node joins."""

from dataclasses import dataclass, field

from host_tools.hil.rigs import WifiSpec
from host_tools.hil.rigs.wifi import password


@dataclass(frozen=True, slots=True)
class Network:
    """`password` None is an open network."""

    ssid: str
    password: str | None = field(default=None, repr=False)

    def settings(self) -> dict[str, str]:
        """Its entry among a node's settings (`wifi`)."""
        known = {"ssid": self.ssid}
        return known if self.password is None else {**known, "password": self.password}


def network_of(wifi: WifiSpec | None) -> Network | None:
    """The network that a rig file names. Raises LimpetError as `host_tools.hil.rigs.wifi.password` does."""
    if wifi is None:
        return None
    found = password(wifi)
    return Network(wifi.ssid, found.get_secret_value() if found else None)
