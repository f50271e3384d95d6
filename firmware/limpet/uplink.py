"""Brings the queue's readings to a broker: connects, publishes, frees what the broker has acknowledged."""

import os
import time

from micropython import const
from umqtt.simple import MQTTException

from limpet import health
from limpet.log import log
from limpet.mqtt import UP, Session
from limpet.senml import Pack

_WINDOW = const(16)  # packs in flight
_IDLE_MS = const(20)
_BUSY_MS = const(2)  # while there is a backlog
_MIN_BACKOFF_MS = const(1000)
_MAX_BACKOFF_MS = const(300000)
_ACK_MS = const(60000)  # the longest wait for a PUBACK
_RESYNC_MS = const(900000)


class Uplink:
    """`node_id` and `context` (an SSLContext) are the node's identity."""

    def __init__(self, settings, node_id, context, clock, queue, wifi, sampler):
        self._settings = settings
        self._node_id = node_id
        self._context = context
        self._clock = clock
        self._queue = queue
        self._wifi = wifi
        self._sampler = sampler
        self._topic = "%s/%s/" % (settings["prefix"], node_id)
        self._batch_ms = settings.get("batch_ms", 1000)
        self._health_ms = settings.get("health_s", 60) * 1000
        self._flight = []  # [packet id, first seq, seq behind the last], oldest first
        self._backoff = _MIN_BACKOFF_MS
        self._turn = 0  # whose it is among the brokers
        self._sync_due = time.ticks_ms()
        self.connects = 0
        self.error = None

    def run(self):
        """Deliver for ever (a task): whatever goes wrong is told, and tried again."""
        brokers = self._settings["brokers"]
        while True:
            while not self._wifi.is_up():
                yield 200
            broker = brokers[self._turn % len(brokers)]
            try:
                yield from self._set_clock()
                self._turn += 1
                yield from self._deliver(broker)
            except (OSError, ValueError, MQTTException) as e:
                self.error = "%s:%d: %s" % (broker["host"], broker["port"], e)
                log("uplink", self.error)
            # Full jitter: four hundred nodes must not come back at the same moment.
            yield int.from_bytes(os.urandom(3), "big") % self._backoff
            self._backoff = min(self._backoff * 2, _MAX_BACKOFF_MS)

    def _set_clock(self):
        if time.ticks_diff(time.ticks_ms(), self._sync_due) >= 0:
            yield from self._clock.sync(self._settings["ntp"])
            if self._clock.trust == "unknown":
                raise OSError("no time: no server of 'ntp' has answered")
            self._sync_due = time.ticks_add(time.ticks_ms(), _RESYNC_MS)

    def _deliver(self, broker):
        """One session, from connect to whatever ends it."""
        session = Session(
            self._node_id,
            broker["host"],
            broker["port"],
            broker["name"],
            self._settings.get("keepalive", 30),
            self._context,
        )
        session.set_last_will(self._topic + "state", b'{"up":false}', True, 1)
        session.on_ack = self._acknowledged
        self._flight.clear()
        try:
            session.connect()
            while session.state != UP:
                session.step()
                yield _IDLE_MS
            self.connects += 1
            log("uplink", "connected to %s:%d" % (broker["host"], broker["port"]))
            yield from self._introduce(session)
            yield from self._pump(session)
        finally:
            session.close()

    def _introduce(self, session):
        state = '{"up":true,"epoch":"%s"}' % self._queue.epoch
        yield from self._publish(session, "state", (state,), True)
        about = health.about(self._node_id, self._settings["board"], self._sampler.channels)
        yield from self._publish(session, "about", about, True)

    def _publish(self, session, leaf, pieces, retain=False, qos=1):
        """Publish a text that comes in pieces."""
        topic = (self._topic + leaf).encode()
        while True:
            begun = session.begin(topic, qos)
            if begun is not None:
                break
            session.step()
            yield _IDLE_MS
        buf, at = begun
        for piece in pieces:
            buf[at : at + len(piece)] = piece.encode()
            at += len(piece)
        pid = session.commit(at, retain)
        if qos:
            self._flight.append([pid, self._queue.first, self._queue.first])  # its PUBACK frees no reading

    def _pump(self, session):
        queue = self._queue
        unsent = queue.first
        next_health = self._moved = time.ticks_ms()
        while True:
            session.step()
            # A lost Wi-Fi does not end the session: TCP goes on when it is back soon, and the keepalive
            # ends it when it is not. A broker that answers pings but no PUBLISH would hold us for ever.
            if not self._flight:
                self._moved = time.ticks_ms()
            elif time.ticks_diff(time.ticks_ms(), self._moved) > _ACK_MS:
                raise OSError("no PUBACK")
            unsent = max(unsent, queue.first)
            while self._is_due(unsent) and len(self._flight) < _WINDOW:
                sent = self._send_pack(session, unsent)
                if sent == unsent:
                    break  # the socket takes no more now
                unsent = sent
            if time.ticks_diff(time.ticks_ms(), next_health) >= 0:
                next_health = time.ticks_add(time.ticks_ms(), self._health_ms)
                text = health.health(self._clock, queue, self._wifi, self._sampler, self)
                yield from self._publish(session, "health", (text,), qos=0)
                yield from self._set_clock()
            yield _BUSY_MS if self._is_due(unsent) else _IDLE_MS

    def _is_due(self, unsent):
        if unsent == self._queue.next:
            return False
        uptime_s, ms, _, _, _ = self._queue.get(unsent)
        waited = self._clock.uptime_ms() - uptime_s * 1000 - ms
        return waited >= self._batch_ms or self._queue.next - unsent >= 16

    def _send_pack(self, session, seq):
        """Send readings from `seq` on, as many as fit; the first one that is not sent."""
        begun = session.begin((self._topic + "data").encode(), 1)
        if begun is None:
            return seq
        buf, at = begun
        queue = self._queue
        start = seq
        base_ms = self._taken_at(queue.get(seq))
        pack = Pack(buf, at, self._node_id, queue.epoch, seq, base_ms)
        while seq < queue.next:
            reading = queue.get(seq)
            _, _, channel, reason, value = reading
            unix_ms = self._taken_at(reading)
            name, unit, decimals, _, _, _ = self._sampler.channels[channel]
            if not pack.add(unix_ms, name, unit, decimals, reason, value):
                break
            seq += 1
        self._flight.append([session.commit(pack.close()), start, seq])
        return seq

    def _taken_at(self, reading):
        """When a reading of the queue was taken, in unix ms."""
        return self._clock.unix_ms(reading[0] * 1000 + reading[1])

    def _acknowledged(self, pid):
        for each in self._flight:
            if each[0] == pid:
                each[0] = 0
                break
        while self._flight and not self._flight[0][0]:
            _, start, end = self._flight.pop(0)
            self._queue.ack(start, end)
            self._moved = time.ticks_ms()
            self._backoff = _MIN_BACKOFF_MS  # the session has proved itself
            self._turn = 0  # the next one begins with the best broker again
            self.error = None
