"""Cuts the power at every flash operation of a spool's life, and again at every operation of the recovery.

Runs inside MicroPython, without a network: what would be sent is read by the Reader, and compared at once
with what append() had confirmed. One life goes through the scenario without a cut. At each of its flash
operations the flash is copied, and in the copies the power fails in that operation, or before, or after it:
so thousands of cuts cost one scenario.

Arguments: sectors; batch; seed; part and parts (operations whose number is part modulo parts); how many of
the three ways a second cut tries at each operation; folders for sys.path. Prints what was tried as JSON.
"""

import io
import json
import sys

SECTORS, BATCH, SEED, PART, PARTS, WAYS = [int(word) for word in sys.argv[1:7]]
sys.path[:] = sys.argv[7:] + [".frozen"]

from _flash import SECTOR, Flash, PowerCut  # noqa: E402
from limpet.reader import END, GAP, HELD, READING  # noqa: E402
from limpet.spool import Spool  # noqa: E402

HOW = ("before", "torn", "after")
CHANNELS = [
    ("bme280/temperature", "Cel", 2, -4000, 8500, 1000),
    ("probe/temperature", "Cel", 4, -55, 125, 1000),
]
OWNER = "n01"
HOLDOVER, SYNCED = 1, 2  # trust of a clock
BOOTED_MS = 2000000000000  # the first boot, in unix time
BOOT_MS = 1000000000  # from one boot to the next
PACK = 40  # readings that are acknowledged at once
# What is surely kept: all but the sector that is written and the one that is erased, less what is no reading.
KEPT = (SECTORS - 2) * 220


class Device:
    """esp32.Partition's interface over a Flash that is this partition alone."""

    def __init__(self, flash):
        self._flash = flash

    def readblocks(self, block, buf, offset=0):
        self._flash.read(block * SECTOR + offset, buf)

    def writeblocks(self, block, buf, offset=0):
        self._flash.program(block * SECTOR + offset, buf)

    def ioctl(self, op, arg):
        if op == 4:
            return self._flash.size // SECTOR
        if op == 5:
            return SECTOR
        if op == 6:
            self._flash.erase(arg * SECTOR)
        return 0


class Wrong(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Wrong(what)


class Boot:
    """What is true of a boot, and what its spool was told of the time."""

    def __init__(self, number):
        self.booted_ms = BOOTED_MS + number * BOOT_MS
        self.offset_ms = 0  # the RTC's at the start; 0: none
        self.marking = False  # a mark was begun
        self.marked = False  # and came back


class Truth:
    """What happened outside of the flash. A branch goes on from its trunk without changing it."""

    def __init__(self, trunk=None):
        self._trunk = trunk
        self._confirmed = {}  # seq: (value, s, ms, channel, Boot, whether the time was known)
        self._delivered = {}  # seq: value
        self._appeared = {}  # value of an append that never came back: seq
        self.unconfirmed = trunk.unconfirmed[:] if trunk else []  # appends that never came back
        self.acked = trunk.acked if trunk else 0
        self.last = trunk.last if trunk else -1  # the highest number confirmed
        self.epoch = trunk.epoch if trunk else None
        self.boots = trunk.boots if trunk else 0
        self.exact = trunk.exact if trunk else 0  # the cursor when a sector was erased
        self.dropped = 0

    def find(self, seq):
        found = self._confirmed.get(seq)
        return found if found or not self._trunk else self._trunk.find(seq)

    def find_unconfirmed(self, seq, value):
        """The reading whose append never came back; it may appear, but once."""
        for each in self.unconfirmed:
            if each[0] == value:
                check(self._appeared.setdefault(value, seq) == seq, "appears twice", seq, value)
                return each
        return None

    def confirm(self, seq, reading):
        check(seq > self.last, "a number goes back", seq, self.last)
        check(self.was_delivered(seq) is None, "a number is used again", seq)
        self.last = seq
        self._confirmed[seq] = reading

    def was_delivered(self, seq):
        found = self._delivered.get(seq)
        return found if found is not None or not self._trunk else self._trunk.was_delivered(seq)

    def deliver(self, seq, value):
        self._delivered[seq] = value


class Life:
    """A boot of the node: from the construction of its Spool to a power cut."""

    def __init__(self, flash, truth, rtc_error_ms=None):
        self.truth = truth
        self.boot = Boot(truth.boots)
        truth.boots += 1
        self._pending = []  # of a batch: (seq, reading)
        self._uptime_ms = 1000
        self.spool = spool = Spool(Device(flash), OWNER)
        check(spool.fault is None, "fault", spool.fault)
        check(truth.last < 0 or spool.epoch == truth.epoch, "another epoch")
        check(spool.cursor <= truth.acked, "the cursor went ahead", spool.cursor, truth.acked)
        check(spool.next > truth.last, "the next number went back", spool.next, truth.last)
        if rtc_error_ms is not None:
            self.boot.offset_ms = self.boot.booted_ms + rtc_error_ms
        spool.start(CHANNELS, self.boot.offset_ms, HOLDOVER if self.boot.offset_ms else 0, BATCH, 60000)
        self.reader = spool.reader()
        self._at = spool.cursor

    def append(self, count=1):
        spool, truth = self.spool, self.truth
        for _ in range(count):
            self._uptime_ms += 1007
            seq = spool.next
            channel = seq % 2
            value = (truth.boots * 100003 + self._uptime_ms) % 4000001 - 2000000
            s, ms = self._uptime_ms // 1000, self._uptime_ms % 1000
            reading = (value, s, ms, channel, self.boot, self.boot.marked)
            truth.unconfirmed.append(reading)
            spool.append(s, ms, channel, 0, value)
            check(spool.next == seq + 1, "a number was skipped", seq, spool.next)
            check(not spool.errors, "errors", spool.errors)
            truth.epoch = spool.epoch
            self._pending.append((seq, reading))
            while self._pending and self._pending[0][0] <= seq - (BATCH - 1):
                self._confirm()

    def flush(self):
        self.spool.flush()
        while self._pending:
            self._confirm()

    def _confirm(self):
        seq, reading = self._pending.pop(0)
        self.truth.confirm(seq, reading)
        self.truth.unconfirmed.remove(reading)

    def mark(self):
        self.flush()
        self.boot.marking = True
        self.spool.mark(self.boot.booted_ms, SYNCED)
        self.boot.marked = True

    def deliver(self, limit=None):
        """Read up to `limit` readings and gaps, acknowledge them by the pack; how many there were."""
        reader = self.reader
        count = 0
        self.flush()
        while limit is None or count < limit:
            what = reader.look()
            if what in (END, HELD):
                break
            check(reader.seq == self._at, "not the next", what, reader.seq, self._at)
            if what == READING:
                self._judge_reading()
                self._at += 1
            else:
                check(what == GAP, "what is this?", what)
                self._judge_gap()
                self._at = reader.last + 1
            reader.skip()
            count += 1
            if not count % PACK:
                self._acknowledge()
        self._acknowledge()
        if limit is None:
            check(what == END, "held")
            check(self._at == self.spool.next == self.spool.cursor, "readings are missing", self._at)
        return count

    def _acknowledge(self):
        self.truth.acked = max(self.truth.acked, self._at)
        self.spool.ack(self._at)

    def _judge_reading(self):
        reader, truth = self.reader, self.truth
        seq, value = reader.seq, reader.value
        check(truth.was_delivered(seq) in (None, value), "two contents of a number", seq)
        truth.deliver(seq, value)
        found = truth.find(seq) or truth.find_unconfirmed(seq, value)
        check(found is not None, "invented", seq, value)
        check(value == found[0], "altered", seq, value, found[0])
        check(reader.reason == 0, "altered reason", seq)
        check(reader.channel[:3] == CHANNELS[found[3]][:3], "altered channel", seq, reader.channel)
        self._judge_time(found)

    def _judge_time(self, found):
        reader = self.reader
        _, s, ms, _, boot, was_marked = found
        uptime_ms, unix_ms, quality = s * 1000 + ms, reader.unix_ms, reader.quality
        true_ms = boot.booted_ms + uptime_ms
        said = (reader.seq, quality, unix_ms - true_ms, reader.later_s)
        if boot.marked:
            check(quality == (0 if was_marked else 2), "wrong quality", said)
        elif boot.offset_ms:
            check(quality == 1 or (boot.marking and quality == 2), "wrong quality", said)
        else:
            check(quality == 3 or (boot.marking and quality == 2), "wrong quality", said)
        if quality in (0, 2):
            check(unix_ms == true_ms, "misdated", said)
        elif quality == 1:
            check(unix_ms == boot.offset_ms + uptime_ms, "misdated", said)
        else:
            check(unix_ms <= true_ms, "invented time", said)
            check(reader.later_s is None or true_ms <= unix_ms + reader.later_s * 1000, "bound", said)

    def _judge_gap(self):
        reader, truth = self.reader, self.truth
        said = (reader.seq, reader.last, reader.why, truth.last)
        check(reader.seq <= reader.last < self.spool.next, "gap", said)
        if reader.why == "full":
            truth.dropped += reader.last - reader.seq + 1
            check(reader.last <= truth.last - KEPT, "dropped too early", said)
            check(reader.seq >= truth.exact, "the gap is larger than the loss", said, truth.exact)
        else:
            check(reader.why == "damaged", "gap", said)
            for seq in range(reader.seq, reader.last + 1):
                check(truth.find(seq) is None, "lost", said, seq)


def recover(flash, truth, dated):
    """What a node does after a power cut; at the end everything is delivered."""
    life = Life(flash, truth)
    life.append(2)
    if dated:
        life.mark()
    else:
        life.flush()
        life.reader.force = True
    life.append()
    life.deliver()
    life.append()
    life.deliver()


def copy_of(file):
    return io.BytesIO(bytes(file.getvalue()))


class Watched(Flash):
    """The flash of the life without cuts: each of its operations is a place for cuts in copies."""

    def __init__(self, file):
        super().__init__(file)
        self.file = file
        self.truth = None
        self.operations = self.first = self.second = self.longest = 0

    def program(self, offset, buf):
        self._explore(lambda flash: flash.program(offset, buf))
        super().program(offset, buf)

    def erase(self, offset, length=SECTOR):
        self.truth.exact = max(self.truth.exact, self.cursor())
        self._explore(lambda flash: flash.erase(offset, length))
        super().erase(offset, length)

    def _explore(self, action):
        at = 0
        while True:
            at += 1
            self.operations += 1
            mine = self.operations % PARTS == PART
            for how in HOW if mine else HOW[:1]:
                file = copy_of(self.file)
                flash = Flash(file)
                flash.cut_power(at, how, SEED + self.operations)
                try:
                    action(flash)
                    self.operations -= 1
                    return
                except PowerCut:
                    pass
                if mine:
                    self._recover(file, how)

    def _recover(self, file, how):
        self.first += 1
        dated = self.first % 3 != 0
        flash = Flash(copy_of(file))
        try:
            recover(flash, Truth(self.truth), dated)
            operations = flash.programs + flash.erases
            self.longest = max(self.longest, operations)
            for second in range(1, operations + 1):
                for way in range(WAYS):
                    self._cut_again(file, second, HOW[(second + way + self.first) % 3], dated)
        except Exception as e:
            print("cut %s operation %d of the scenario, seed %d" % (how, self.operations, SEED))
            raise e

    def _cut_again(self, file, second, how, dated):
        self.second += 1
        file = copy_of(file)
        flash = Flash(file)
        flash.cut_power(second, how, SEED + self.second)
        truth = Truth(self.truth)
        try:
            recover(flash, truth, dated)
        except PowerCut:
            pass
        try:
            recover(Flash(file), Truth(truth), True)
        except Exception as e:
            print("cut again %s operation %d of the recovery, seed %d" % (how, second, SEED + self.second))
            raise e


def scenario(flash, truth):
    """Sampling, acknowledging, wrap-around, resets, a full spool, and boots that never knew the time."""

    def live(rtc_error_ms=None):
        life = Life(flash, truth, rtc_error_ms)
        flash.cursor = lambda: life.spool.cursor
        return life

    flash.cursor = lambda: 0
    flash.truth = truth
    life = live()  # a blank flash
    life.append(25)
    life.mark()
    for _ in range(6):
        life.append(25)
        life.deliver(20)
    life = live()  # never dated
    life.append(30)
    life.flush()
    life = live(rtc_error_ms=-700)  # the RTC's time alone, and never a moment for an erase ahead
    life.spool.slack = lambda: 0
    life.append(10)
    life.reader.force = True
    life.deliver(60)
    life = live(rtc_error_ms=400)  # and then a server's
    life.append(40)
    life.mark()
    chores = life.spool.run()  # sectors are erased ahead
    for _ in range(SECTORS * 10):
        life.append(25)
        life.deliver(26)
        for _ in range(3):
            next(chores)
    life = live()
    life.append(3)
    life.mark()
    life.append(37)
    life.deliver(29)
    chores = life.spool.run()
    for i in range(SECTORS * 8):  # more than the spool holds; hardly any are taken
        life.append(32)
        next(chores)
        if i % 8 == 7:
            life.deliver(9)
    life.deliver()
    check(life.spool.lost == truth.dropped > 0, "lost", life.spool.lost, truth.dropped)
    life.append(30)
    life.deliver()
    return truth.dropped


def main():
    truth = Truth()
    flash = Watched(io.BytesIO(b"\xff" * (SECTORS * SECTOR)))
    lost = scenario(flash, truth)
    result = {
        "appends": truth.last + 1,
        "operations": flash.operations,
        "lost": lost,
        "first": flash.first,
        "second": flash.second,
        "recovery": flash.longest,
    }
    print("\x1e" + json.dumps(result))


main()
