"""What is on its way to the broker: packs of readings, up to a window of them, none of their bytes in RAM.

A packet in flight is its id and the sequence number behind its last reading; it begins where the one
before it ends. The spool has the readings, so after a reconnect the same packets are made again.
"""

import time

from micropython import const

from limpet.mqtt import UP
from limpet.reader import GAP, HELD, READING
from limpet.senml import Pack

_WINDOW = const(64)  # packets in flight; AWS IoT Core takes up to 100
_PAYLOAD = const(1024)  # bytes of a pack, at most
_FULL = const(40)  # readings that do not wait for others: about a pack
_STRIDE = const(8)  # readings between two turns of the other tasks
_WAIT_MS = const(2)
_HELD_MS = const(500)
_ACK_MS = const(60000)  # the longest wait for a PUBACK


class Delivery:
    """`topic` is the node's prefix with a `/` at its end; a reading waits at most `batch_ms` for others."""

    def __init__(self, session, spool, topic, node_id, batch_ms):
        self._session = session
        self._spool = spool
        self._reader = spool.reader()
        self._topic = topic
        self._node_id = node_id
        self._batch_ms = batch_ms
        self._pack = Pack(_PAYLOAD)
        self._pids = []  # of the packets in flight, oldest first; 0 when acknowledged out of turn
        self._ends = []  # and the sequence numbers behind them, negative behind a gap
        self._again = []  # pairs of them, of the session before
        self._next = spool.cursor  # the reading to send next
        self._since = None  # when the oldest reading that is not sent came
        self._rest = time.ticks_ms()  # nothing to send until then
        self._moved = time.ticks_ms()  # when the broker has acknowledged the last time
        self.acks = 0  # in this session

    def begin(self):
        """A session begins. What the last one had in flight is to be sent again: as the same packets if the
        broker remembers them, else anew."""
        again = [(pid, self._ends[i]) for i, pid in enumerate(self._pids)] + self._again
        self._again = again if self._session.present else []
        self._pids, self._ends = [], []
        self.acks = 0
        self._moved = time.ticks_ms()
        self._go_to(self._spool.cursor)

    def resend(self):
        """Send again what begin() has found (a task's step)."""
        while self._again and self._session.state == UP:
            pid, end = self._again.pop(0)
            end = abs(end)
            if end <= self._next:  # not a pack of readings: said anew
                continue
            if pid:
                yield from self._send(pid, end)
            else:  # acknowledged already, but one before it was not
                self._go_to(end)
                self._fly(0, end)

    def _go_to(self, seq):
        self._next = seq
        self._reader.seek(seq)

    def is_due(self):
        """Whether readings should be sent now."""
        pending = self._spool.next - self._next
        if not pending:
            self._since = None
            return False
        now = time.ticks_ms()
        if self._since is None:
            self._since = now
        if len(self._pids) >= _WINDOW or time.ticks_diff(self._rest, now) > 0:
            return False
        return pending >= _FULL or time.ticks_diff(now, self._since) >= self._batch_ms

    def send_due(self):
        """Send packs as long as there is something due, and room in the window."""
        while self.is_due() and self._session.state == UP:
            # What has no date yet waits for the time, as long as there is room for more.
            self._reader.force = (self._spool.next - self._next) * 4 >= self._spool.capacity * 3
            if self._reader.look() == HELD:
                self._rest = time.ticks_add(time.ticks_ms(), _HELD_MS)
                return
            yield from self._send(0, self._spool.next)
            self._session.step()

    def is_stuck(self):
        """Whether the broker has acknowledged nothing for too long, though it should have."""
        if not self._pids:
            self._moved = time.ticks_ms()
        return time.ticks_diff(time.ticks_ms(), self._moved) > _ACK_MS

    def publish(self, leaf, pieces, retain=False, qos=1):
        """Publish a text that comes in pieces (a task's step); its packet id, 0 if it has none."""
        begun = yield from self._begin(leaf, qos, 0)
        if begun is None:
            return 0
        buf, at = begun
        for piece in pieces:
            buf[at : at + len(piece)] = piece.encode()
            at += len(piece)
        pid = self._session.commit(at, retain)
        if qos:
            self._fly(pid, self._next)
        return pid

    def acknowledged(self, pid):
        """The broker has the packet `pid`; ids that are not in flight are ignored."""
        if pid not in self._pids or not pid:
            return
        self._pids[self._pids.index(pid)] = 0
        self.acks += 1
        self._moved = time.ticks_ms()
        while self._pids and not self._pids[0]:
            self._pids.pop(0)
            end = self._ends.pop(0)
            if end < 0:
                self._spool.ack(-end)
            else:
                self._spool.ack(end, self._spool.cursor)

    def _fly(self, pid, end):
        self._pids.append(pid)
        self._ends.append(end)

    def _begin(self, leaf, qos, pid):
        """Wait until a packet can be written: (buffer, index); None when the session has ended."""
        topic = (self._topic + leaf).encode()
        while self._session.state == UP:
            begun = self._session.begin(topic, qos, pid)
            if begun is not None:
                return begun
            yield _WAIT_MS
            self._session.step()
        return None

    def _send(self, pid, end):
        """Send the next pack, up to the reading `end`; or the gap that is there instead. `pid`: again."""
        reader = self._reader
        what = reader.look()
        if what != READING and what != GAP:
            return
        begun = yield from self._begin("event" if what == GAP else "data", 1, pid)
        if begun is None or reader.look() != what:  # the spool dropped it while we waited
            return
        buf, at = begun
        if what == GAP:
            text = '{"event":"gap","epoch":"%s","first":%d,"last":%d,"why":"%s"}' % (
                self._spool.epoch,
                reader.seq,
                reader.last,
                reader.why,
            )
            buf[at : at + len(text)] = text.encode()
            at += len(text)
            self._next = reader.last + 1
            reader.skip()
        else:
            at = yield from self._fill(buf, at, end)
        self._fly(self._session.commit(at, False, pid > 0), -self._next if what == GAP else self._next)

    def _fill(self, buf, at, end):
        """Write a pack at `at`; the index behind it."""
        reader = self._reader
        pack = self._pack
        pack.begin(buf, at, self._node_id, self._spool.epoch)
        while reader.look() == READING and reader.seq < end:
            name, unit, decimals = reader.channel
            if not pack.add(
                reader.seq,
                reader.unix_ms,
                name,
                unit,
                decimals,
                reader.reason,
                reader.value,
                reader.quality,
                reader.later_s,
            ):
                break
            self._next = reader.seq + 1
            reader.skip()
            if not pack.count % _STRIDE:
                yield 0
        return pack.close()
