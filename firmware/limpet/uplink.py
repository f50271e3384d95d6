"""The way to a broker: which one, when, and what is said beside the readings, which are limpet.delivery's."""

import errno
import json
import time

from micropython import const

from limpet import dns, health
from limpet.backoff import Backoff
from limpet.delivery import Delivery
from limpet.log import log
from limpet.mqtt import CLOSED, UP, Session

_GREETING = const(2)  # limpet.mqtt's state while TLS and CONNECT are under way; a public name would cost heap

_IDLE_MS = const(20)
_BUSY_MS = const(2)  # while there is a backlog
_RETRY_MS = const(18000)
_PROVED_MS = const(30000)  # what a session lasts that is a good one; or as long as the wait before it
_RETURN_MS = const(600000)  # on another broker than the first
_TIME_MS = const(10000)  # the first connection waits so long for the time
_ERASE_MS = const(200)  # what erasing an identity takes
_PATIENCE_MS = const(1000)  # for the samples to leave so much time


class Uplink:
    """`node_id`, `context` (an SSLContext) and `certificate` (its fingerprint) are the node's identity;
    `events` is an Events.

    `command` is what limpet.commands is to work on, (id, payload) or None, and `answer` the text that comes
    of it. With `renewed` set there is a new identity, which is tried from the next connection on.
    """

    def __init__(self, settings, node_id, context, clock, spool, wifi, sampler, events, certificate=""):
        self._settings = settings
        self._node_id = node_id
        self._certificate = certificate
        self._clock = clock
        self._spool = spool
        self._wifi = wifi
        self._sampler = sampler
        self._events = events
        self._event = 0  # the packet id of the oldest event while it is in flight
        self._answered = 0  # and that of the last answer
        self.command = None  # type: tuple[str, bytes] | None
        self.answer = None  # type: str | None
        self.renewed = False
        self._trial = None
        self._was_there = False  # the broker, though it may not have let us in
        self._refused = None  # why one that was there did not, since the first one was tried
        topic = "%s/%s/" % (settings["prefix"], node_id)
        keepalive = settings.get("keepalive", 30)
        self.session = Session(node_id, keepalive, context, ((topic + "cmd/+").encode(),))
        self.session.set_last_will(topic + "state", b'{"up":false}', True, 1)
        self.session.on_ack = self._acknowledged
        self.session.on_message = self._commanded
        self._delivery = Delivery(self.session, spool, topic, node_id, settings.get("batch_ms", 1000))
        self._health_ms = settings.get("health_s", 60) * 1000
        self._backoff = Backoff(settings.get("retry_ms", _RETRY_MS))
        self._turn = 0  # whose it is among the brokers
        self._proved = False
        self.connects = 0
        self.error = None

    def run(self):
        """Deliver for ever (a task): whatever goes wrong is told, and tried again."""
        brokers = self._settings["brokers"]
        self.session.close()
        yield from self._wait_for_time()
        while True:
            while not self._wifi.is_up():
                yield 200
            broker = brokers[self._turn]
            self._proved = self._was_there = False
            try:
                if self.renewed or self._trial:
                    self._equip()
                yield from self._connect(broker)
                if self.session.state == UP:
                    self.connects += 1
                    log("uplink", "connected to %s:%d" % (broker["host"], broker["port"]))
                    yield from self._serve()
                error = self.session.error
            except OSError as e:
                error = str(e)
            self.session.close()
            if error:
                if self._was_there and "[Errno %d]" % errno.ETIMEDOUT not in error:
                    self._refused = error
                self.error = "%s:%d: %s" % (broker["host"], broker["port"], error)
                log("uplink", self.error)
            # After a good session the first broker comes first. Else all get their turn, and then a pause.
            self._turn = 0 if self._proved or self.renewed else (self._turn + 1) % len(brokers)
            if not self._turn and not self.renewed:
                if self._trial and not self._proved:
                    self._trial.failed(self._refused)
                self._refused = None
                yield self._backoff.wait()

    def _wait_for_time(self):
        # Readings are dated when they are sent, and what the RTC kept is not as good as a server's time.
        began = None
        while not self._clock.is_synced():
            if self._wifi.is_up():
                now = time.ticks_ms()
                began = now if began is None else began
                if time.ticks_diff(now, began) > _TIME_MS:
                    log("uplink", "no time yet; connects without")
                    return
            yield 50

    def _connect(self, broker):
        """Try to connect; the session is then up or closed."""
        address = yield from dns.resolve(broker["host"], broker["port"], self._wifi.dns())
        session = self.session
        session.connect(address, broker["name"])
        while session.state not in (UP, CLOSED):
            session.step()
            self._was_there = self._was_there or session.state == _GREETING
            yield _IDLE_MS

    def _equip(self):
        """Take the identity whose turn it is while there are two. Raises OSError if it cannot be used."""
        if self.renewed:
            from limpet.trial import Trial

            self._trial = Trial(self._node_id)
            self.renewed = False
        trial = self._trial
        log("uplink", "tries the %s certificate" % ("old" if trial.older else "new"))  # type: ignore[union-attr]
        try:
            self._certificate = trial.equip(self.session)  # type: ignore[union-attr]
        except Exception as e:  # of any kind: the other one goes on
            self._was_there = True
            raise OSError(str(e) or type(e).__name__)

    def _serve(self):
        """A session, from its begin to whatever ends it."""
        session, delivery = self.session, self._delivery
        began = next_health = time.ticks_ms()
        self._event = self._answered = 0
        delivery.begin()
        yield from self._introduce()
        yield from delivery.resend()
        # A lost Wi-Fi does not end the session: TCP goes on when it is back soon, and the keepalive
        # ends it when it is not. A broker that answers pings but no PUBLISH would hold us for ever.
        while session.state == UP:
            session.step()
            yield from delivery.send_due()
            yield from self._say_events()
            yield from self._say_answer()
            now = time.ticks_ms()
            up = time.ticks_diff(now, began)
            if self._trial and delivery.acks:
                is_time = self._sampler.slack() > _ERASE_MS or up > _PATIENCE_MS
                if is_time and not self._is_settled():
                    return
            if self.renewed and not self._answered and self.answer is None:
                return
            if time.ticks_diff(now, next_health) >= 0:
                next_health = time.ticks_add(now, self._health_ms)
                yield from delivery.publish("health", (self.health(),), qos=0)
            if delivery.is_stuck():
                raise OSError("no PUBACK")
            if delivery.acks and not self._proved and up >= min(_PROVED_MS, self._backoff.cap):
                self._proved = True
                self._backoff.proved()
            if self._turn and up >= _RETURN_MS:
                log("uplink", "tries the first broker again")
                session.close(True)
                self._proved = True
                return
            yield _BUSY_MS if delivery.is_due() else _IDLE_MS

    def _introduce(self):
        state = '{"up":true,"epoch":"%s","boot":%d}' % (self._spool.epoch, self._spool.boot)
        yield from self._delivery.publish("state", (state,), True)
        about = health.about(
            self._node_id,
            self._settings["board"],
            self._settings.get("profile", "development"),
            self._certificate,
            self._sampler.channels,
        )
        yield from self._delivery.publish("about", about, True)

    def _say_events(self):
        if self._events.waiting and not self._event:
            who, text = self._events.waiting[0]
            text = '{"event":%s,"text":%s}' % (json.dumps(who), json.dumps(text))
            self._event = yield from self._delivery.publish("event", (text,))

    def _say_answer(self):
        if self.answer is not None:
            topic = "rsp/" + self.command[0]  # type: ignore[index]
            self._answered = yield from self._delivery.publish(topic, (self.answer,))
            if self._answered:
                self.command = self.answer = None

    def _is_settled(self):
        """On trial: whether we may stay, with the identity that has just got in."""
        self._backoff.proved()
        told = self._trial.got_in()  # type: ignore[union-attr]
        if told is None:
            self._proved = True
            return False
        self._trial = None
        self._events.tell("identity", told)
        return True

    def health(self):
        """The text of `health`."""
        return health.health(self._clock, self._spool, self._wifi, self._sampler, self)

    def _commanded(self, topic, payload):
        # One at a time: what comes before the answer to the last one is dropped.
        if self.command is None:
            self.command = (str(topic, "utf-8").rsplit("/", 1)[1], bytes(payload))

    def _acknowledged(self, pid):
        self.error = None
        if pid == self._event:
            self._event = 0
            self._events.waiting.pop(0)
        if pid == self._answered:
            self._answered = 0
        self._delivery.acknowledged(pid)
