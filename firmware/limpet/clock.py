"""The node's clock: milliseconds since boot that never go back, and what they are in UTC.

Readings carry uptime. It becomes UTC when they are published, so what was sampled before the first
synchronisation is dated by it too. Time comes by SNTP (RFC 4330), from the first server that answers sanely.
"""

import errno
import os
import select
import socket
import struct
import time

import machine
from micropython import const

from limpet.log import log

_NTP_TO_UNIX = const(2208988800)  # 1900 to 1970, in seconds
_ERA = const(4294967296)  # NTP's seconds wrap in 2036
_PORT_EPOCH = 946684800 if time.gmtime(0)[0] == 2000 else 0  # the port's epoch in unix time
_OLDEST = const(1735689600)  # 2025 in unix time: no node of this firmware has lived before
_NEWEST = const(3094168448)  # 2068: what a port with 32 bits and the epoch 2000 can count to
_MAX_ROUND_TRIP_MS = const(1000)


class Clock:
    """`trust`: "unknown" (no time yet), "holdover" (the RTC's, from before a reset), or "synced"."""

    def __init__(self):
        self._ticks = time.ticks_ms()
        self._uptime = 0
        self._boot_unix_ms = 0
        self.trust = "unknown"
        now = time.time() + _PORT_EPOCH
        if now >= _OLDEST:
            self._boot_unix_ms = now * 1000 + 500  # whole seconds: right to half a one
            self.trust = "holdover"

    def uptime_ms(self):
        """Milliseconds since boot. Must be called at least once in six days: ticks wrap after twelve."""
        now = time.ticks_ms()
        self._uptime += time.ticks_diff(now, self._ticks)
        self._ticks = now
        return self._uptime

    def unix_ms(self, uptime_ms):
        """UTC of a moment of this boot, in milliseconds since 1970; only when the trust is not unknown."""
        return self._boot_unix_ms + uptime_ms

    def sync(self, servers):
        """Ask the servers in order until one has told the time (a task's step)."""
        for server in servers:
            try:
                yield from self._ask(server["host"], server["port"])
                return
            except (OSError, ValueError) as e:
                log("clock", "%s: %s" % (server["host"], e))

    def _ask(self, host, port):
        address = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)[0][-1]
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(address)
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            # Our transmit time comes back as the originate time: a cookie against stray and forged answers.
            cookie = os.urandom(8)
            sent = self.uptime_ms()
            sock.send(b"\x23" + bytes(39) + cookie)
            while True:
                answered = poller.poll(0)
                received = self.uptime_ms()
                if received - sent > _MAX_ROUND_TRIP_MS:
                    raise OSError(errno.ETIMEDOUT)
                if answered:
                    break
                yield 2
            self._set(parse_answer(sock.recv(48), cookie), sent, received)
        finally:
            sock.close()

    def _set(self, unix_ms, sent, received):
        # The server's time was true half a round trip ago.
        self._boot_unix_ms = unix_ms + (received - sent) // 2 - received
        self.trust = "synced"
        self._set_rtc(self.unix_ms(received))
        log("clock", "synced, round trip %d ms" % (received - sent))

    def _set_rtc(self, unix_ms):
        # TLS reads the chip's own clock to check certificates, and it survives resets.
        t = time.gmtime(unix_ms // 1000 - _PORT_EPOCH)
        machine.RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], unix_ms % 1000 * 1000))


def parse_answer(answer, cookie):
    """The transmit time of an SNTP answer (RFC 4330 §4, §5) in unix ms. Raises ValueError for a bad one."""
    if len(answer) < 48 or answer[24:32] != cookie:
        raise ValueError("not an answer to our question")
    if answer[0] & 7 != 4 or answer[0] >> 6 == 3 or not 1 <= answer[1] <= 15:
        raise ValueError("server is not synchronised")
    seconds, fraction = struct.unpack(">II", answer[40:48])
    if seconds < 0x80000000:
        seconds += _ERA
    seconds -= _NTP_TO_UNIX
    if not _OLDEST <= seconds < _NEWEST:
        raise ValueError("server is in another age")
    return seconds * 1000 + (fraction * 1000 >> 32)
