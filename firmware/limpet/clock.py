"""The node's clock: uptime that never goes back, what it is in UTC, and how far that can be trusted.

Uptime is the chip's ticks and nothing else. UTC is uptime plus an offset, which SNTP (RFC 4330, RFC 5905)
keeps right: it steps where it must, slews where it can, and learns how fast the crystal runs.
"""

import os
import time

import machine
from micropython import const

import limpet
from limpet import dns
from limpet.log import log

UNKNOWN = const(0)  # no time
HOLDOVER = const(1)  # the RTC's, kept through a reset; nobody has confirmed it in this boot
SYNCED = const(2)
COASTING = const(3)  # was synced, but nobody has confirmed it for an hour

_NTP_TO_UNIX = const(2208988800)  # 1900 to 1970, in seconds
_ERA = const(4294967296)  # NTP's seconds wrap in 2036
_PORT_EPOCH = 946684800 if time.gmtime(0)[0] == 2000 else 0  # the port's epoch in unix time
_NEWEST = const(3094168448)  # 2068: what a port with 32 bits and the epoch 2000 can count to
_UNSET = const(b"limpet: no time")  # in the RTC's memory while what the RTC shows is not the time
_RTC_SLACK_S = const(2)  # a reset may have cost the RTC its fraction of a second

_TURN_MS = const(1000)
_MOST_TRIP_MS = const(1000)
_AGREE_MS = const(1000)  # either of two true answers may be wrong by half of its round trip
_TRIES = const(2)  # of the name server: two seconds, and one for the time server

_JITTER_MS = const(500)  # after Wi-Fi has come: a fleet gets it at once
_QUICK_S = const(16)  # without time; RFC 4330 §10 wants at least 15 s
_SHORT_S = const(64)  # with it; RFC 5905's usual shortest …
_LONG_S = const(900)  # … and nearly its usual longest
_COASTING_S = const(3600)
_KISS_S = const(3600)  # a server that sends us away is left alone so long
_KISSES = const((b"RATE", b"DENY", b"RSTR"))  # RFC 5905 §7.4

_STEP_MS = const(128)  # RFC 5905's STEPT
_SLEW_PPM = const(500)  # what POSIX clocks slew at
_PANIC_MS = const(60000)
_CONVINCED = const(5)  # polls that agree make one server believed against our own clock
_MARK_MS = const(20)
_NS = const(1000000)  # in a ms

# A module's crystal is good to 10 ppm (ESP32 Hardware Design Guidelines), RFC 5905 assumes 15.
_MOST_DRIFT = const(1000)  # 0.1 ppm
_BASE_MS = const(3600000)  # on a shorter base one measures the network's jitter, not the crystal
_LONG_BASE_MS = const(14400000)  # on a longer one the temperature has changed


class Clock:
    """`servers`: dicts with host and port. `wifi` has is_up() and dns(). `floor`: unix s, surely past.

    `s` and `ms` are the uptime as of now(), `offset_ms` is uptime 0 in unix ms (0 while UNKNOWN), `trust` one
    of the above. `on_mark(offset_ms, trust)` is called when trust changes, or offset_ms by 20 ms or more.
    `drift` is in 0.1 ppm, positive when the crystal is slow. `steps` counts the corrections after the first
    that were too large to slew; `tell(module, text)` is called for each. `error` tells what was wrong in the
    latest poll, or is None.
    """

    def __init__(self, servers, wifi, floor=0):
        self._servers = servers
        self._wifi = wifi
        self._floor = max(floor, limpet.RELEASED)
        self._addresses = [None] * len(servers)
        self._rests = [0] * len(servers)  # uptime s until which a server is left alone
        self._ticks = time.ticks_ms()
        self.s = self.ms = 0
        self.offset_ms = self._marked = 0
        self.trust = UNKNOWN
        self.on_mark = None
        self.tell = log
        self.drift = self.steps = 0
        self.error = None
        self._due = 0  # uptime ms of the next poll
        self._interval = _QUICK_S // 2  # s
        self._good = False  # the latest poll
        self._confirmed = 0  # uptime s of the latest good one
        self._suspect = self._suspicions = 0
        self._best_trip = _MOST_TRIP_MS
        self._steered = 0  # uptime ms up to which offset_ms has been kept right
        self._slew = 0  # ns that it is still to be moved by
        self._rest = 0  # ns that it should have been moved by, and was not, being whole ms
        self._back = 0  # ms that it still has to go back
        self._base = None  # type: tuple[int, int] | None  # (uptime ms, offset) from where drift is measured
        self._read_rtc()

    def _read_rtc(self):
        rtc = machine.RTC()
        unset = rtc.memory() == _UNSET
        seconds = time.time() + _PORT_EPOCH
        possible = self._floor - _RTC_SLACK_S <= seconds < _NEWEST
        if possible and not unset:
            self.offset_ms = self._marked = seconds * 1000 + 500  # whole seconds: right to half a one
            self.trust = HOLDOVER
        elif not possible:
            # TLS wants a date, and this is the best one. The next boot must not take it for the time.
            rtc.memory(_UNSET)
            _set_rtc(self._floor * 1000)

    def now(self):
        """Bring `s` and `ms` up to date. At least once in six days: ticks wrap after twelve."""
        ticks = time.ticks_ms()
        passed = time.ticks_diff(ticks, self._ticks)
        self._ticks = ticks
        if self._back and passed:
            # A ms less only when one has passed: so UTC stands still, and never goes back.
            self._back -= 1
            self.offset_ms -= 1
        ms = self.ms + passed
        if ms >= 1000:
            self.s += ms // 1000
            ms %= 1000
        self.ms = ms

    def uptime_ms(self):
        """Milliseconds since the clock was made."""
        self.now()
        return self.s * 1000 + self.ms

    def unix_ms(self, uptime_ms):
        """UTC of a moment of this boot, in ms since 1970; only when the trust is not UNKNOWN."""
        return self.offset_ms + uptime_ms

    def is_synced(self):
        """Whether the time has been confirmed in this boot."""
        return self.trust >= SYNCED

    def trust_text(self):
        return "synced" if self.trust == SYNCED else "holdover" if self.trust else "unknown"

    def run(self):
        """Keep the clock right, for ever (a task)."""
        while True:
            self._steer()
            wait = self._due - self.uptime_ms()
            if wait <= 0:
                if self._wifi.is_up():
                    yield from self._poll()
                    continue
                wait = 20 + _random() % _JITTER_MS
                self._due += wait
            yield min(wait, _TURN_MS)

    def _steer(self):
        """Move the offset by what drift and slew ask for since the last time."""
        if self.trust == UNKNOWN:
            return
        now = self.uptime_ms()
        passed = now - self._steered
        self._steered = now
        slew = min(max(self._slew, -_SLEW_PPM * passed), _SLEW_PPM * passed)
        self._slew -= slew
        self._rest += slew + self.drift * passed // 10
        move = self._rest // _NS
        self._rest -= move * _NS
        if move < 0:
            self._back -= move
        elif move:
            self.offset_ms += move
        if self.trust == SYNCED and self.s - self._confirmed > _COASTING_S:
            log("clock", "nobody has confirmed the time for an hour")
            self._mark(COASTING)
        else:
            self._mark(self.trust)

    def _mark(self, trust):
        if trust != self.trust or abs(self.offset_ms - self._marked) >= _MARK_MS:
            self.trust = trust
            self._marked = self.offset_ms
            if self.on_mark:
                self.on_mark(self.offset_ms, trust)

    def _poll(self):
        """Ask all servers side by side; ends within three seconds."""
        self._due = self.uptime_ms() + _SHORT_S * 1000  # should this fail in a way that nobody thought of
        answers = []  # type: list[tuple[int, int, int]]  # (unix ms of uptime 0, round trip in ms, the server's index)
        asked = []
        for i in range(len(self._servers)):
            if self.s >= self._rests[i]:
                asked.append((i, self._ask(i, answers)))
        if asked:
            self.error = None
        try:
            while asked:
                at = len(asked)
                while at:
                    at -= 1
                    i, steps = asked[at]
                    try:
                        next(steps)
                    except StopIteration:
                        del asked[at]
                    except (OSError, ValueError) as e:
                        del asked[at]
                        self._complain(i, str(e))
                yield 2
        finally:
            for _, steps in asked:
                steps.close()
        good = self._judge(answers)
        shortest, longest = (_SHORT_S, _LONG_S) if self.is_synced() else (_QUICK_S, _SHORT_S)
        steady = good == self._good and not self._suspicions
        self._interval = min(self._interval * 2, longest) if steady else shortest
        self._good = good
        # An eighth of jitter, for a fleet that has started together.
        self._due = self.uptime_ms() + self._interval * (1000 + _random() % 125)

    def _complain(self, i, what):
        server = self._servers[i]
        self.error = "%s:%d: %s" % (server["host"], server["port"], what)
        self._addresses[i] = None  # next time the name may lead to another one
        log("clock", self.error)

    def _ask(self, i, answers):
        address = self._addresses[i]
        if address is None:
            server = self._servers[i]
            address = yield from dns.resolve(server["host"], server["port"], self._wifi.dns(), _TRIES)
            self._addresses[i] = address
        # Our transmit time comes back as the originate time: a cookie against stray and forged answers.
        question = b"\x23" + bytes(39) + os.urandom(8)
        sent = self.uptime_ms()
        answer = yield from dns.ask(address, question, _answers)
        now = self.uptime_ms()
        trip = now - sent
        if trip > _MOST_TRIP_MS:
            raise ValueError("answers too late")
        if answer[1] == 0 and answer[12:16] in _KISSES:
            self._rests[i] = self.s + _KISS_S
            raise ValueError("sends us away")
        told, held = read_answer(answer)
        if 0 <= held <= trip:  # else what the server says of itself is no help
            trip -= held
        answers.append((told + trip // 2 - now, trip, i))

    def _judge(self, answers):
        """Find what most servers agree on, and follow it. Whether anybody is believed."""
        if not answers:
            return False
        answers.sort()
        agreed, score = answers, 0
        for told, _, _ in answers:
            group = [a for a in answers if abs(a[0] - told) <= _AGREE_MS]
            its = len(group) * 2 + self._explains(told)
            if its > score:
                agreed, score = group, its
        offset, trip, i = agreed[(len(agreed) - 1) // 2]
        # Our own clock has a vote: when it was synced it must be outvoted too; before, it decides a draw.
        most = len(agreed) * 2 > len(answers)
        strange = (len(agreed) + score % 2) * 2 <= len(answers) + 1 and (self.is_synced() or not most)
        # Either they lie, or a lie that was believed before has made the floor.
        below = offset // 1000 + self.s < self._floor - _RTC_SLACK_S
        if strange or below:
            if not most:
                self._complain(i, "the servers disagree")
                return False
            again = abs(offset - self._suspect) <= _AGREE_MS
            self._suspicions = self._suspicions + 1 if again else 1
            self._suspect = offset
            if self._suspicions < _CONVINCED:
                known = self.offset_ms or (self._floor - self.s) * 1000
                self._complain(i, "%d s off; not believed yet" % ((offset - known) // 1000))
                return False
            if below:
                self.tell("clock", "the time in flash was ahead of the servers'")
                self._floor = limpet.RELEASED
        self._suspicions = 0
        for told, _, i in answers:
            if abs(told - offset) > _AGREE_MS:
                self._complain(i, "outvoted, %d s off" % ((told - offset) // 1000))
        self._follow(offset, trip)
        return True

    def _explains(self, offset):
        """Whether our own clock can be so wrong by itself."""
        limit = _PANIC_MS + (self.s - self._confirmed) * _MOST_DRIFT // 10000
        return self.trust != UNKNOWN and abs(offset - self.offset_ms) <= limit

    def _follow(self, offset, trip):
        off = offset - self.offset_ms
        if not self.is_synced() or abs(off) > max(_STEP_MS, trip):
            if self.is_synced():
                self.steps += 1
                self.tell("clock", "stepped by %d ms" % off)
            else:
                machine.RTC().memory(b"")
                log("clock", "synced, round trip %d ms" % trip)
            self.offset_ms = offset
            self._slew = self._rest = self._back = 0
            self._steered = self.uptime_ms()
            self._base = None
        # A long round trip says little, and may only say that the node was busy when the answer came.
        elif trip <= 2 * self._best_trip + 20 or abs(off) > trip:
            self._slew = off * _NS
            self._measure_drift(offset)
        self._best_trip = min(trip, self._best_trip * 5 // 4 + 1)
        self._confirmed = self.s
        _set_rtc(offset + self.uptime_ms())
        self._mark(SYNCED)

    def _measure_drift(self, offset):
        now = self.uptime_ms()
        if self._base is None:
            self._base = (now, offset)
        began, was = self._base
        if now - began >= _BASE_MS:
            drift = (offset - was) * 10000000 // (now - began)
            self.drift = min(max(drift, -_MOST_DRIFT), _MOST_DRIFT)
            if now - began >= _LONG_BASE_MS:
                self._base = None


def read_answer(answer):
    """The transmit time of an SNTP answer (RFC 4330 §4, §5) in unix ms; for how many ms it was held there.

    Raises ValueError for one that is not to be believed; none is before the firmware's release.
    """
    stamp = answer[40:48]
    if answer[0] & 7 != 4 or answer[0] >> 6 == 3 or not 1 <= answer[1] <= 15 or not any(stamp):
        raise ValueError("server is not synchronised")
    told = _read_time(stamp)
    if not limpet.RELEASED * 1000 <= told < _NEWEST * 1000:
        raise ValueError("server is in another age")
    return told, told - _read_time(answer[32:40])


def _answers(data, question):
    return len(data) >= 48 and data[24:32] == question[40:]


def _read_time(stamp):
    seconds = int.from_bytes(stamp[:4], "big") - _NTP_TO_UNIX
    if stamp[0] < 128:
        seconds += _ERA
    return seconds * 1000 + (int.from_bytes(stamp[4:], "big") * 1000 >> 32)


def _set_rtc(unix_ms):
    # TLS reads the chip's own clock to check certificates, and it survives resets.
    t = time.gmtime(unix_ms // 1000 - _PORT_EPOCH)
    machine.RTC().datetime((t[0], t[1], t[2], t[6], t[3], t[4], t[5], unix_ms % 1000 * 1000))


def _random():
    return int.from_bytes(os.urandom(2), "big")
