"""A spool whose flash has rotted: no crash, nothing wrong is delivered, and all that is whole is."""

import io

from _flash import SECTOR, Dice, Flash
from limpet.reader import END, GAP, READING
from limpet.spool import Spool

SECTORS = 5
OWNER = "n01"
CHANNELS = [
    ("bme280/temperature", "Cel", 2, -4000, 8500, 1000),
    ("probe/temperature", "Cel", 4, -55, 125, 1000),
]
HEADER = 112
TABLE = 64  # bytes of the channel table
SLOT = 16
BOOTED_MS = (2000000000000, 2000010000000)
SYNCED = 2


class Device:
    """esp32.Partition's interface over bytes with the rules of a flash; remembers the latest record."""

    def __init__(self, image):
        self.file = io.BytesIO(image)
        self._flash = Flash(self.file)
        self.latest = None

    def readblocks(self, block, buf, offset=0):
        self._flash.read(block * SECTOR + offset, buf)

    def writeblocks(self, block, buf, offset=0):
        self._flash.program(block * SECTOR + offset, buf)
        if len(buf) == SLOT:
            self.latest = block * SECTOR + offset

    def ioctl(self, op, arg):
        if op == 4:
            return SECTORS
        if op == 5:
            return SECTOR
        if op == 6:
            self._flash.erase(arg * SECTOR)
        return 0


class Sample:
    """A spool of two boots that has gone round, with nothing acknowledged but what is gone."""

    def __init__(self):
        self.taken = []  # (value, unix ms), by number
        self.places = []  # of its record in flash
        device = Device(b"\xff" * (SECTORS * SECTOR))
        for boot, count in enumerate((700, 650)):
            spool = Spool(device, OWNER)
            spool.start(CHANNELS, BOOTED_MS[boot], SYNCED)
            for i in range(count):
                self._append(spool, device, boot, i)
                if boot == 0 and spool.next == 400:
                    spool.ack(390)
        self.image = device.file.getvalue()
        self.cursor, self.next = spool.cursor, spool.next
        assert 0 < spool.first < spool.cursor, "it went round, and lost nothing"

    def _append(self, spool, device, boot, i):
        number = spool.next
        value = number * 7919 % 100003 - 50000
        spool.append(i, i % 1000, number % 2, 0, value)
        assert spool.next == number + 1
        self.taken.append((value, BOOTED_MS[boot] + i * 1000 + i % 1000))
        self.places.append(device.latest)

    def damaged_by(self, image):
        """The numbers whose record is not what it was."""
        return {n for n in range(self.cursor, self.next) if not self._is_whole(image, self.places[n])}

    def _is_whole(self, image, at):
        return image[at : at + SLOT] == self.image[at : at + SLOT]

    def sector(self, index):
        """The numbers whose record is in a sector."""
        return {n for n in range(self.cursor, self.next) if self.places[n] // SECTOR == index}


_sample = None


def sample():
    global _sample
    if _sample is None:
        _sample = Sample()
    return _sample


def read_back(image, said):
    """What a rotten spool delivers: the numbers; and what it counts as damaged. Its readings are checked."""
    s = sample()
    spool = Spool(Device(image), OWNER)
    spool.start(CHANNELS)
    reader = spool.reader()
    came = set()
    at = spool.cursor
    assert at <= s.cursor, (said, at, s.cursor)
    while True:
        what = reader.look()
        if what == END:
            break
        assert reader.seq == at, (said, what, reader.seq, at)
        if what == GAP:
            at = reader.last + 1
        else:
            assert what == READING, (said, what)
            value, unix_ms = s.taken[at]
            assert (reader.value, reader.channel[:3]) == (value, CHANNELS[at % 2][:3]), (said, at)
            assert reader.quality in (0, 1, 2, 3), said
            if reader.quality != 3:
                assert reader.unix_ms == unix_ms, (said, at, reader.unix_ms, unix_ms)
            elif reader.later_s is not None:
                assert reader.unix_ms <= unix_ms <= reader.unix_ms + reader.later_s * 1000, (said, at)
            else:
                assert reader.unix_ms <= unix_ms, (said, at)
            came.add(at)
            at += 1
        reader.skip()
    assert at == spool.next, said
    seen = spool.damaged
    # It goes on, with a number that no reading ever had.
    assert spool.next >= s.next, (said, spool.next, s.next)
    spool.append(5, 0, 1, 0, 1234)
    assert reader.look() in (READING, 3), said
    return came, seen


def rot(image, at, mask):
    image[at] ^= mask


def test_the_sample_is_whole():
    s = sample()
    came, damaged = read_back(s.image, "whole")
    assert (len(came), damaged) == (s.next - s.cursor, 0)
    assert len(came) > 800
    assert {len(s.sector(i)) > 0 for i in range(SECTORS)} == {True}


def test_a_flipped_bit_costs_at_most_its_own_reading():
    s = sample()
    dice = Dice(1)
    hits = 0
    for i in range(150):
        image = bytearray(s.image)
        at = dice.below(len(image))
        rot(image, at, 1 << dice.below(8))
        hit = s.damaged_by(image)
        came, damaged = read_back(image, (i, at))
        lost = set(range(s.cursor, s.next)) - came
        assert lost <= hit, (i, at, lost)
        assert lost == hit, (i, at, "a reading with a wrong bit was delivered")
        assert damaged >= len(hit), (i, at)
        hits += len(hit)
    assert hits > 100


def test_flipped_bits_in_headers_cost_nothing():
    s = sample()
    dice = Dice(2)
    for i in range(60):
        image = bytearray(s.image)
        at = i % SECTORS * SECTOR + dice.below(HEADER)
        rot(image, at, 1 << dice.below(8))
        came, _ = read_back(image, (i, at))
        assert len(came) == s.next - s.cursor, (i, at, len(came))


def test_many_flipped_bits():
    s = sample()
    dice = Dice(3)
    for i in range(40):
        image = bytearray(s.image)
        for _ in range(1 + dice.below(60)):
            at = HEADER + TABLE + dice.below(SECTOR - HEADER - TABLE)  # behind header and channel table
            rot(image, dice.below(SECTORS) * SECTOR + at, 1 << dice.below(8))
        came, damaged = read_back(image, i)
        assert set(range(s.cursor, s.next)) - came == s.damaged_by(image), i
        assert damaged, i


def test_overwritten_stretches():
    s = sample()
    dice = Dice(4)
    for i in range(40):
        image = bytearray(s.image)
        size = 1 + dice.below(600)
        at = dice.below(SECTORS) * SECTOR + HEADER + TABLE + dice.below(SECTOR - HEADER - TABLE - size)
        fill = dice.below(4)
        if at + size > s.places[-1] >= at:
            fill = 0  # an end that is blank again is no damage: nobody can see it
        for j in range(at, at + size):
            image[j] = (0, 0xFF, 0x55, dice.below(256))[fill]
        came, _ = read_back(image, (i, at, size, fill))
        assert set(range(s.cursor, s.next)) - came == s.damaged_by(image), (i, at, size)


def test_flipped_bits_anywhere():
    # A sector may be lost as a whole where its header is hit, in both of its copies; no other.
    s = sample()
    dice = Dice(6)
    for i in range(60):
        image = bytearray(s.image)
        for _ in range(1 + dice.below(200)):
            rot(image, dice.below(len(image)), 1 << dice.below(8))
        may_go = s.damaged_by(image)
        for index in range(SECTORS):
            start, end = index * SECTOR, index * SECTOR + HEADER + TABLE
            if image[start:end] != s.image[start:end]:
                may_go |= s.sector(index)
        came, _ = read_back(image, i)
        assert set(range(s.cursor, s.next)) - came <= may_go, i


def test_both_copies_of_a_header():
    s = sample()
    for index in range(SECTORS):
        image = bytearray(s.image)
        rot(image, index * SECTOR + 20, 1)
        rot(image, index * SECTOR + 70, 1)
        came, _ = read_back(image, index)
        assert set(range(s.cursor, s.next)) - came == s.sector(index), index


def test_erased_sectors():
    s = sample()
    for index in range(SECTORS):
        for fill in (b"\xff", b"\0"):
            image = s.image[: index * SECTOR] + fill * SECTOR + s.image[(index + 1) * SECTOR :]
            came, _ = read_back(image, (index, fill))
            assert set(range(s.cursor, s.next)) - came == s.sector(index), (index, fill)


def test_swapped_sectors():
    s = sample()
    for a in range(SECTORS):
        for b in range(a):
            parts = [s.image[i * SECTOR : (i + 1) * SECTOR] for i in range(SECTORS)]
            parts[a], parts[b] = parts[b], parts[a]
            came, damaged = read_back(b"".join(parts), (a, b))
            assert len(came) == s.next - s.cursor, (a, b)
            assert damaged == 0


def test_one_sector_twice():
    # A copy of an old sector in place of another one: it is read once.
    s = sample()
    for a in range(SECTORS):
        for b in range(SECTORS):
            if a != b:
                parts = [s.image[i * SECTOR : (i + 1) * SECTOR] for i in range(SECTORS)]
                parts[a] = parts[b]
                came, _ = read_back(b"".join(parts), (a, b))
                assert set(range(s.cursor, s.next)) - came == s.sector(a), (a, b)


def test_foreign_images():
    s = sample()
    dice = Dice(5)
    other = Spool(device := Device(b"\xff" * (SECTORS * SECTOR)), "n02")
    other.start(CHANNELS, BOOTED_MS[0], SYNCED)
    for i in range(500):
        other.append(i, 0, 0, 0, i)
    noise = bytearray(SECTORS * SECTOR)
    for i in range(len(noise)):
        noise[i] = dice.below(256)
    images = {
        "zeros": bytes(SECTORS * SECTOR),
        "noise": noise,
        "text": b"littlefs" * (SECTORS * SECTOR // 8),
        "another node's": device.file.getvalue(),
    }
    for name, image in images.items():
        device = Device(image)
        spool = Spool(device, OWNER)
        assert (spool.cursor, spool.next, len(spool)) == (0, 0, 0), name
        assert spool.epoch != other.epoch, name
        assert bool(spool.fault) == (name == "another node's"), (name, spool.fault)
        spool.start(CHANNELS, BOOTED_MS[0], SYNCED)
        for i in range(600):
            spool.append(i, 0, 0, 0, i)
        assert spool.errors == 0, name
        again = Spool(Device(device.file.getvalue()), OWNER)
        assert (again.epoch, again.next, again.fault) == (spool.epoch, 600, None), name
        reader = again.reader()
        reader.seek(0)
        for i in range(600):
            assert (reader.look(), reader.seq, reader.value) == (READING, i, i), (name, i)
            reader.skip()
    assert s.next > 0
