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
    SEC_OPEN = AUTH_OPEN
    SEC_WEP = AUTH_WEP
    SEC_WPA = AUTH_WPA_PSK
    SEC_WPA2 = AUTH_WPA2_PSK
    SEC_WPA_WPA2 = AUTH_WPA_WPA2_PSK
    PM_NONE = const(0)
    PM_PERFORMANCE = const(1)
    PM_POWERSAVE = const(2)

    _station = None

    def __new__(cls, interface=STA_IF):
        if interface == AP_IF:
            raise ValueError("virtual board: only the station interface is modelled")
        if interface != STA_IF:
            raise ValueError("invalid WLAN interface identifier")
        if cls._station is None:
            cls._station = object.__new__(cls)
            cls._station._set = {"pm": cls.PM_PERFORMANCE, "txpower": 20.0}
        return cls._station

    def __init__(self, interface=STA_IF):
        pass

    def _ask(self, what, **words):
        words["do"] = what
        answer = _host.call_json(b"w", words)
        if answer.get("error"):
            raise OSError(answer["error"])
        return answer

    def active(self, on=None):
        return self._ask("active", on=on)["active"]

    def connect(self, ssid=None, key=None, *, bssid=None):
        self._ask("connect", ssid=_text(ssid), key=_text(key))

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
                raise OSError("Wifi Unknown Error 0x300f")  # ESP_ERR_WIFI_NOT_CONNECT
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
        if names and values:
            raise TypeError("either pos or kw args are allowed")
        for name, value in values.items():
            self._configure(name, value)
        if values:
            return None
        if len(names) != 1:
            raise TypeError("can query only one param")
        name = "ssid" if names[0] == "essid" else names[0]
        if name in ("hostname", "dhcp_hostname"):
            return hostname()
        if name in self._set:
            return self._set[name]
        if name not in ("mac", "ssid", "channel", "reconnects"):
            raise ValueError("unknown config param")
        value = self._ask("status")[name]
        return bytes(value) if name == "mac" else value

    def _configure(self, name, value):
        if name in ("hostname", "dhcp_hostname"):
            hostname(value)
        elif name in self._set:
            self._set[name] = type(self._set[name])(value)
        elif name == "reconnects":
            self._ask("reconnects", times=value)
        elif name != "channel":  # the channel is the access point's as soon as it joins one
            raise ValueError("unknown config param")


def _text(value):
    return value.decode() if isinstance(value, (bytes, bytearray)) else value
