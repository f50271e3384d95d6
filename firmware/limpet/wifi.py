"""The Wi-Fi station: joins the first network of the list that lets it in, and joins again when it is lost."""

import time

import network
from micropython import const

from limpet.log import log

_JOIN_MS = const(15000)
_STALE_MS = const(5000)  # until then the status may still be about the attempt before
_POLL_MS = const(100)
_WATCH_MS = const(1000)
_REST_MS = const(5000)  # between two rounds through the list
_FAILED = (network.STAT_WRONG_PASSWORD, network.STAT_NO_AP_FOUND)


class Wifi:
    """`networks`: dicts with ssid and, unless the network is open, password; in order of preference."""

    def __init__(self, networks):
        self._networks = networks
        self._wlan = network.WLAN(network.WLAN.IF_STA)
        self.joins = 0

    def is_up(self):
        return self._wlan.isconnected()

    def rssi(self):
        """Received signal strength in dBm, or None."""
        try:
            return self._wlan.status("rssi")
        except (OSError, ValueError):
            return None

    def dns(self):
        """The IPv4 address of the network's name server, as text."""
        return self._wlan.ifconfig()[3]

    def run(self):
        """Keep the node on the air, for ever (a task)."""
        self._wlan.active(True)
        while True:
            while self._wlan.isconnected():
                yield _WATCH_MS
            for each in self._networks:
                joined = yield from self._join(each)
                if joined:
                    break
            else:
                yield _REST_MS

    def _join(self, wanted):
        ssid = wanted["ssid"]
        try:
            # A station that is still trying for another network refuses a connect(), and needs a moment.
            self._wlan.disconnect()
            yield _POLL_MS
            self._wlan.connect(ssid, wanted.get("password"))
        except OSError as e:
            log("wifi", "'%s': %s" % (ssid, e))
            return False
        started = time.ticks_ms()
        waited = 0
        while waited < _JOIN_MS:
            yield _POLL_MS
            if self._wlan.isconnected():
                self.joins += 1
                log("wifi", "joined '%s', %s" % (ssid, self._wlan.ifconfig()[0]))
                return True
            waited = time.ticks_diff(time.ticks_ms(), started)
            if waited > _STALE_MS and self._wlan.status() in _FAILED:
                break
        log("wifi", "'%s': %s" % (ssid, _reason(self._wlan.status())))
        return False


def _reason(status):
    if status == network.STAT_WRONG_PASSWORD:
        return "wrong password"
    if status == network.STAT_NO_AP_FOUND:
        return "not found"
    return "no connection, status %d" % status
