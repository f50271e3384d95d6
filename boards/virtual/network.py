"""network of the virtual board: a Wi-Fi station whose air is simulated by the supervisor."""

import _host
from micropython import const

STA_IF = const(0)
AP_IF = const(1)

STAT_IDLE = const(1000)
STAT_CONNECTING = const(1001)
STAT_GOT_IP = const(1010)
STAT_BEACON_TIMEOUT = const(200)
STAT_NO_AP_FOUND = const(201)
STAT_WRONG_PASSWORD = const(202)
STAT_ASSOC_FAIL = const(203)
STAT_HANDSHAKE_TIMEOUT = const(204)

AUTH_OPEN = const(0)
AUTH_WEP = const(1)
AUTH_WPA_PSK = const(2)
AUTH_WPA2_PSK = const(3)
AUTH_WPA_WPA2_PSK = const(4)

_hostname = "mpy-esp32"


def hostname(name=None):
    global _hostname
    if name is None:
        return _hostname
    if len(name) > 32:
        raise ValueError
    _hostname = name
    return None


class WLAN:
    """The station interface; the access point interface is not modelled."""

    IF_STA = STA_IF
    IF_AP = AP_IF
    PM_NONE = const(0)
    PM_PERFORMANCE = const(1)
    PM_POWERSAVE = const(2)

    def __init__(self, interface=STA_IF):
        if interface != STA_IF:
            raise ValueError("virtual board: only the station interface is modelled")

    def _ask(self, what, **words):
        words["do"] = what
        return _host.call_json(b"w", words)

    def active(self, on=None):
        return self._ask("active", on=on)["active"]

    def connect(self, ssid=None, key=None, *, bssid=None):
        # The stock port raises the same for an inactive interface.
        if not self._ask("connect", ssid=_text(ssid), key=_text(key))["ok"]:
            raise OSError("Wifi Internal Error")

    def disconnect(self):
        self._ask("disconnect")

    def isconnected(self):
        return self._ask("status")["status"] == STAT_GOT_IP

    def status(self, what=None):
        state = self._ask("status")
        if what is None:
            return state["status"]
        if what == "rssi":
            if state["status"] != STAT_GOT_IP:
                raise OSError("Wifi Not Connected")
            return state["rssi"]
        raise ValueError("unknown status param")

    def scan(self):
        found = self._ask("scan")["aps"]
        return [(a[0].encode(), bytes(a[1]), a[2], a[3], a[4], a[5]) for a in found]

    def ifconfig(self):
        return tuple(self._ask("status")["ifconfig"])

    def ipconfig(self, what):
        address, mask, gateway, _dns = self._ask("status")["ifconfig"]
        if what == "addr4":
            return (address, mask)
        if what == "gw4":
            return gateway
        raise ValueError("unknown config param")

    def config(self, *names, **values):
        if values:
            for name in values:
                if name not in ("pm", "reconnects", "txpower", "channel", "hostname", "dhcp_hostname"):
                    raise ValueError("unknown config param")
            return None
        state = self._ask("status")
        name = names[0]
        if name not in ("mac", "ssid", "channel", "hostname", "txpower", "pm", "reconnects"):
            raise ValueError("unknown config param")
        return bytes(state["mac"]) if name == "mac" else state.get(name)


def _text(value):
    return value.decode() if isinstance(value, (bytes, bytearray)) else value
