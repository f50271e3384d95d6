import gc
import time

from _flash import SECTOR, Dice, PowerCut
from flash import Nor
from limpet.ram import RamFlash
from limpet.reader import END, GAP, HELD, READING
from limpet.spool import Spool, SpoolError

OWNER = "n01"
CHANNELS = [
    ("bme280/temperature", "Cel", 2, -4000, 8500, 1000),
    ("bme280/pressure", "Pa", 2, 3000000, 11000000, 1000),
]
OTHERS = [("probe/temperature", "Cel", 4, -55, 125, 1000)]
BOOTED_MS = 1800000000000
HOLDOVER, SYNCED = 1, 2
SLOT = 16
A_SECTOR = 245  # readings: about


def begun(nor, channels=CHANNELS, batch=1, batch_ms=0, owner=OWNER):
    spool = Spool(nor, owner)
    spool.start(channels, BOOTED_MS, SYNCED, batch, batch_ms)
    return spool


def fill(spool, count):
    for _ in range(count):
        seq = spool.next
        spool.append(seq, seq % 1000, seq % len(spool.channels), 0, value(seq))


def value(seq):
    return seq * 7919 % 100003 - 50000


def delivered(spool, start=None):
    """What a reader tells from `start` on: numbers, and gaps as (first, last, why)."""
    reader = spool.reader()
    reader.force = True
    if start is not None:
        reader.seek(start)
    found = []
    while True:
        what = reader.look()
        if what == END:
            return found
        if what == GAP:
            found.append((reader.seq, reader.last, reader.why))
        else:
            assert reader.value == value(reader.seq), reader.seq
            found.append(reader.seq)
        reader.skip()


def raises(action):
    try:
        action()
    except SpoolError as e:
        return str(e)
    raise AssertionError("no SpoolError")


def test_nothing_is_written_before_there_is_something_to_say():
    nor = Nor(4)
    spool = begun(nor)
    spool.ack(5)
    spool.flush()
    next(spool.run())
    assert (nor.operations, spool.boot, len(spool), spool.fault) == (0, 1, 0, None)
    spool.append(1, 2, 0, 0, 3)
    assert (spool.next, len(spool)) == (1, 1)
    assert begun(nor).boot == 2
    assert begun(nor).boot == 2  # the second boot has written nothing


def test_a_reading_costs_one_operation_of_16_bytes():
    nor = Nor(4)
    spool = begun(nor)
    fill(spool, 5)
    nor.power_on()
    fill(spool, 50)
    assert (nor.programs, nor.programmed, nor.erases, nor.read) == (50, 50 * SLOT, 0, 0)


def test_append_allocates_nothing():
    class Nothing:
        def readblocks(self, block, buf, offset):
            pass

        def writeblocks(self, block, buf, offset):
            pass

        def ioctl(self, op, arg):
            return SECTOR if op == 5 else 4

    spool = begun(Nothing())
    spool.append(1, 2, 0, 0, 3)
    gc.collect()
    gc.disable()
    try:
        before = gc.mem_alloc()
        for _ in range(100):
            spool.append(1000, 999, 1, 0, -5)
        assert gc.mem_alloc() == before
    finally:
        gc.enable()


def test_goes_on_where_it_was():
    nor = Nor(4)
    spool = begun(nor)
    fill(spool, 300)
    spool.ack(100)
    epoch = spool.epoch
    for boot in (2, 3, 4):
        spool = begun(nor)
        assert (spool.boot, spool.epoch, spool.next, spool.first) == (boot, epoch, 300 + 10 * (boot - 2), 0)
        assert spool.cursor == 100
        assert delivered(spool) == list(range(100, spool.next))
        fill(spool, 10)


def test_the_largest_values_of_all_fields():
    nor = Nor(3)
    spool = begun(nor, [("c%d/x" % i, "V", 0, 0, 0, 1) for i in range(64)])
    spool.append(0xFFFFFFFF, 999, 63, 31, -0x80000000)
    spool.append(0, 0, 0, 0, 0x7FFFFFFF)
    spool.append(0, 0, 0, 0, 0x80000000)  # more than a record holds: never altered, but a bad reading
    reader = Spool(nor, OWNER).reader()
    found = []
    while reader.look() == READING:
        uptime_ms = reader.unix_ms - BOOTED_MS
        found.append((reader.channel, reader.reason, reader.value, uptime_ms))
        reader.skip()
    assert found == [
        (("c63/x", "V", 0), 31, -0x80000000, 0xFFFFFFFF * 1000 + 999),
        (("c0/x", "V", 0), 0, 0x7FFFFFFF, 0),
        (("c0/x", "V", 0), 5, 0, 0),
    ]


def test_the_cursor_is_written_now_and_then():
    nor = Nor(4)
    spool = begun(nor)
    fill(spool, 200)
    nor.power_on()
    for end in range(1, 201):
        spool.ack(end)
        spool.ack(end - 1)  # nothing goes back
    assert (spool.cursor, len(spool)) == (200, 0)
    assert nor.programs == 200 // 64
    assert Spool(nor, OWNER).cursor == 192
    spool.ack(1000)
    assert spool.cursor == 200


def test_a_long_backlog_is_acknowledged_without_a_reading_in_between():
    # More ACK records than half a sector takes; the sector has no reading, and must get its first.
    nor = Nor(48)
    spool = begun(nor)
    fill(spool, A_SECTOR * 42)
    spool = begun(nor, OTHERS)
    spool.mark(BOOTED_MS, SYNCED)  # opens a sector
    nor.power_on()
    for end in range(spool.next + 1):
        spool.ack(end)
    assert spool.cursor == spool.next
    assert 128 > nor.programs > 100, nor.programs
    again = Spool(nor, OWNER)
    assert again.next == spool.next
    assert again.next - again.cursor < 64
    fill(spool, 300)
    assert delivered(Spool(nor, OWNER), spool.next - 300) == list(range(spool.next - 300, spool.next))


def test_other_records_never_fill_a_sector():
    # A sector without a reading would begin with the number of the next one.
    nor = Nor(4)
    for boot in range(300):
        spool = begun(nor)
        spool.mark(BOOTED_MS + boot, SYNCED)
    assert nor.erases == 1
    fill(spool, 300)
    assert delivered(Spool(nor, OWNER)) == list(range(300))
    for i in range(1000):
        spool.mark(BOOTED_MS + i, SYNCED)
    fill(spool, 1)
    assert delivered(Spool(nor, OWNER)) == list(range(301))


def test_full_the_oldest_sector_goes_and_the_loss_is_exact():
    nor = Nor(5)
    spool = begun(nor)
    fill(spool, 100)
    spool.ack(70)
    fill(spool, A_SECTOR * 6)
    assert spool.cursor == 70
    assert spool.lost == spool.first - 70 > A_SECTOR
    assert spool.next - spool.first > A_SECTOR * 3
    found = delivered(spool)
    assert found == [(70, spool.first - 1, "full")] + list(range(spool.first, spool.next))
    again = Spool(nor, OWNER)
    assert (again.cursor, again.first, again.lost) == (70, spool.first, 0)
    assert delivered(again) == found


def test_what_was_on_its_way_when_it_was_dropped_is_not_lost():
    spool = begun(Nor(4))
    fill(spool, A_SECTOR * 4)
    lost = spool.lost
    assert lost == spool.first > 100
    spool.ack(50, 0)
    spool.ack(80, 60)
    assert spool.lost == lost - 50 - 20
    spool.ack(spool.first - 10)  # told as a gap
    assert spool.lost == lost - 70
    spool.ack(spool.first + 10, spool.first - 20)  # half of what was lost of it came in an earlier pack
    assert spool.lost == lost - 80
    spool.ack(spool.next, spool.first)
    assert spool.lost == lost - 80


def test_the_cursor_is_exact_before_a_sector_goes():
    # Or the gap that is told after a power cut is larger than the loss.
    nor = Nor(4)
    spool = begun(nor)
    fill(spool, A_SECTOR * 3 + 100)
    spool.ack(40)
    assert (spool.lost, Spool(nor, OWNER).cursor) == (0, 0)
    cursors = []

    def look(kind, block, offset):
        if kind == "erase":
            cursors.append(Spool(nor.copy(), OWNER).cursor)

    nor.refuses = look
    while not spool.lost:
        fill(spool, 1)
    assert cursors == [40]
    nor.refuses = None
    again = Spool(nor, OWNER)
    assert (again.cursor, again.first) == (40, spool.first)
    assert spool.lost == spool.first - 40


def test_nothing_is_missing_where_all_was_acknowledged():
    nor = Nor(4)
    spool = begun(nor)
    fill(spool, A_SECTOR * 3 + 100)
    second = spool.base(1)
    spool.ack(second - 30)
    assert Spool(nor, OWNER).cursor == second - 30
    spool.ack(second + 20)
    assert Spool(nor, OWNER).cursor == second - 30
    while not spool.first:
        fill(spool, 1)
    again = Spool(nor, OWNER)
    assert (spool.lost, again.cursor, again.first) == (0, second + 20, second)
    assert delivered(again) == list(range(second + 20, spool.next))


def test_sectors_take_turns():
    nor = Nor(5)
    erased = [0] * 5

    def count(kind, block, offset):
        if kind == "erase":
            erased[block] += 1

    nor.refuses = count
    for _ in range(8):  # a boot uses no sector up
        spool = begun(nor)
        fill(spool, A_SECTOR * 5)
        spool.ack(spool.next)
    assert max(erased) - min(erased) <= 1, erased
    assert erase_counts(nor) == erased
    # A count that is damaged begins no lower than the others.
    place = erased.index(min(erased))
    nor.sector(place)[9] ^= 1
    spool = begun(nor)
    fill(spool, A_SECTOR * 6)
    assert max(erased) < erase_counts(nor)[place] <= max(erased) + 3


def erase_counts(nor):
    return [int.from_bytes(nor.sector(place)[8:12], "little") for place in range(nor.sectors)]


def test_a_sector_is_erased_ahead_when_nobody_minds():
    nor = Nor(4)
    spool = begun(nor)
    chores = spool.run()
    slack = [1000]
    spool.slack = lambda: slack[0]
    fill(spool, 20)
    next(chores)
    assert nor.erases == 1  # the next one is not needed yet
    fill(spool, 150)
    slack[0] = 59
    assert next(chores) <= 20
    assert nor.erases == 1
    slack[0] = 60
    next(chores)
    assert nor.erases == 2
    next(chores)
    fill(spool, A_SECTOR)
    assert nor.erases == 2  # append() did not have to
    again = begun(nor)  # what was erased ahead is used after a reset
    fill(again, 150)
    next(again.run())
    assert nor.erases == 3


def test_what_is_not_blank_is_erased_again():
    # The power went during an erase, in a way that left the header of an earlier one.
    for at in (112, 2000, 4095):
        nor = Nor(4)
        spool = begun(nor)
        fill(spool, 150)
        next(spool.run())
        assert nor.erases == 2
        nor.sector(1)[at] = 0x7F
        again = begun(nor)
        fill(again, 300)
        assert nor.erases >= 3
        assert delivered(Spool(nor, OWNER)) == list(range(450))


def test_a_sector_left_open_is_closed_later():
    # The power went between the opening of a sector and the closing of the one before it.
    nor = Nor(3)
    spool = begun(nor)
    fill(spool, A_SECTOR + 5)
    nor.data[255 * SLOT : 256 * SLOT] = b"\xff" * SLOT
    spool = begun(nor)
    fill(spool, 5)
    nor.sector(1)[:] = b"\xff" * SECTOR
    assert Spool(nor, OWNER).next > spool.next


def test_a_sector_left_open_that_is_erased_first():
    nor = Nor(3)
    spool = begun(nor)
    fill(spool, A_SECTOR * 2 + 150)
    nor.data[SECTOR + 255 * SLOT : SECTOR + 256 * SLOT] = b"\xff" * SLOT
    nor.refuses = lambda kind, block, offset: kind == "read" and block == 0
    spool = begun(nor)
    nor.refuses = None
    spool.ack(A_SECTOR * 2)
    next(spool.run())  # the second sector: there is no other
    fill(spool, 10)
    assert bytes(nor.sector(1)[SLOT:]) == b"\xff" * (SECTOR - SLOT)


def test_without_slack_it_is_erased_at_last():
    nor = Nor(4)
    spool = begun(nor)
    spool.slack = lambda: 0
    chores = spool.run()
    for _ in range(A_SECTOR * 3):
        fill(spool, 1)
        next(chores)
    assert spool.errors == 0 and nor.erases >= 3
    assert delivered(spool) == list(range(spool.next))


def test_recovery_reads_a_header_a_sector_and_the_newest_sector():
    nor = Nor(24)
    spool = begun(nor)
    fill(spool, A_SECTOR * 25)
    nor.power_on()
    again = Spool(nor, OWNER)
    assert (again.next, again.first) == (spool.next, spool.first)
    assert again.next - again.first > A_SECTOR * 22
    most = 24 * 64 + SECTOR + 64
    assert nor.read <= most, nor.read
    fresh = Nor(24)
    Spool(fresh, OWNER)
    assert fresh.read == 24 * 64
    assert most + (128 - 24) * 64 < 128 * SECTOR * 3 // 100  # of 512 KiB
    assert nor.operations == 0


def test_a_batch_is_written_at_once():
    nor = Nor(4)
    spool = begun(nor, batch=10, batch_ms=50)
    fill(spool, 10)
    nor.power_on()
    fill(spool, 9)
    assert (nor.programs, spool.next, spool.durable) == (0, 19, 10)
    assert Spool(nor, OWNER).next == 10
    fill(spool, 1)
    assert (nor.programs, nor.programmed, spool.durable) == (1, 10 * SLOT, 20)
    fill(spool, 3)
    chores = spool.run()
    deadline = time.ticks_add(time.ticks_ms(), 10000)
    assert next(chores) <= 50
    while spool.durable < 23:
        assert time.ticks_diff(deadline, time.ticks_ms()) > 0
        time.sleep_ms(next(chores))
    fill(spool, 1)
    spool.flush()
    assert Spool(nor, OWNER).next == 24
    fill(spool, 4)
    spool.mark(BOOTED_MS + 500, SYNCED)
    assert Spool(nor, OWNER).next == 28
    fill(spool, 1000)
    spool.flush()
    found = delivered(spool)
    assert found == delivered(Spool(nor, OWNER))
    assert found[-1] == 1027 and spool.errors == 0


def test_the_spool_delays_nothing_and_a_number_that_was_seen_is_in_flash():
    nor = Nor(4)
    spool = begun(nor, batch=50, batch_ms=60000)
    fill(spool, 3)
    reader = spool.reader()
    for seq in range(3):
        assert (reader.look(), reader.seq, reader.value) == (READING, seq, value(seq))
        assert Spool(nor, OWNER).next > seq
        reader.skip()
    assert reader.look() == END
    fill(spool, 1)
    assert reader.look() == READING


def test_too_many_channels():
    assert "64 channels" in raises(lambda: begun(Nor(3), CHANNELS * 33))
    long = [("n" * 100, "V", 0, 0, 0, 1) for _ in range(21)]
    assert "2048 bytes" in raises(lambda: begun(Nor(3), long))
    fill(begun(Nor(3), long[:19]), 1000)


def test_a_partition_that_cannot_be_used():
    assert "three blocks" in raises(lambda: Spool(Nor(2), OWNER))

    class Small(Nor):
        def ioctl(self, op, arg):
            return 512 if op == 5 else Nor.ioctl(self, op, arg)

    assert "4096" in raises(lambda: Spool(Small(8), OWNER))
    nor = Nor(4)
    nor.refuses = lambda kind, block, offset: kind == "read"
    assert "cannot be read" in raises(lambda: Spool(nor, OWNER))


def test_works_in_ram():
    spool = begun(RamFlash(3))
    assert spool.fault is None
    fill(spool, 1000)
    assert delivered(spool) == [(0, spool.first - 1, "full")] + list(range(spool.first, 1000))
    assert spool.next - spool.first >= A_SECTOR


def test_another_nodes_spool():
    nor = Nor(4)
    theirs = begun(nor, owner="n02")
    fill(theirs, 300)
    mine = begun(nor)
    assert "another node" in mine.fault
    assert (mine.next, mine.cursor, mine.boot) == (0, 0, 1)
    assert mine.epoch != theirs.epoch
    fill(mine, 300)
    assert delivered(mine) == list(range(300))
    assert Spool(nor, OWNER).fault is None
    # And back again: what is left of theirs goes on with numbers that they never had.
    again = Spool(nor, "n02")
    assert again.epoch != theirs.epoch or again.next >= theirs.next


def test_two_epochs():
    # A sector of an older image: the epoch with the highest boot counts.
    old = Nor(4)
    spool = begun(old)
    fill(spool, 10)
    nor = Nor(4)
    for _ in range(3):
        spool = begun(nor)
        fill(spool, 100)
    for place in (2, 3):
        nor.sector(place)[:] = old.sector(0)
        again = Spool(nor, OWNER)
        assert (again.epoch, again.next, again.boot) == (spool.epoch, 300, 3)
        assert delivered(again) == list(range(300))
    nor.data[:SECTOR], nor.data[2 * SECTOR : 3 * SECTOR] = old.sector(0), nor.data[:SECTOR]
    assert Spool(nor, OWNER).epoch == spool.epoch


def test_other_channels_begin_a_sector():
    nor = Nor(4)
    fill(begun(nor), 10)
    spool = begun(nor, OTHERS)
    fill(spool, 10)
    again = begun(nor, CHANNELS)
    fill(again, 10)
    assert nor.erases == 3
    reader = Spool(nor, OWNER).reader()
    names = []
    while reader.look() == READING:
        names.append(reader.channel)
        reader.skip()
    both = [("bme280/temperature", "Cel", 2), ("bme280/pressure", "Pa", 2)]
    assert names == both * 5 + [("probe/temperature", "Cel", 4)] * 10 + both * 5


def test_a_sector_that_has_no_reading_when_the_channels_change():
    nor = Nor(4)
    fill(begun(nor), 10)
    begun(nor, OTHERS).mark(BOOTED_MS, SYNCED)  # opens a sector, and no reading comes
    spool = begun(nor, CHANNELS)
    for _ in range(3):
        spool = begun(nor, CHANNELS)
        assert (spool.next, spool.fault) == (10 + spool.boot - 3, None)
        fill(spool, 1)
        assert delivered(spool) == list(range(spool.next))
    assert delivered(Spool(nor, OWNER)) == list(range(13))


def test_the_newest_sector_lost_no_number_comes_again():
    for ahead in (False, True):
        for damage in (b"\xff" * SECTOR, b"\0" * SECTOR, None):
            nor = Nor(6)
            spool = begun(nor)
            fill(spool, A_SECTOR + 200)
            if ahead:
                next(spool.run())
            if damage:
                nor.sector(1)[:] = damage
            else:
                nor.sector(1)[20] ^= 1
                nor.sector(1)[68] ^= 1
            again = begun(nor)
            assert "newest" in again.fault
            assert spool.next <= again.next <= spool.next + 5 * 256
            fill(again, 3)
            found = delivered(Spool(nor, OWNER), 0)
            assert found[-3:] == list(range(again.next - 3, again.next))
            assert found[-4][1:] == (again.next - 4, "damaged")


def test_the_newest_sector_unreadable_no_number_comes_again():
    nor = Nor(5)
    spool = begun(nor)
    fill(spool, A_SECTOR + 100)
    begun(nor, OTHERS).mark(BOOTED_MS, SYNCED)
    spool = begun(nor, OTHERS)
    fill(spool, 50)
    nor.refuses = lambda kind, block, offset: kind == "read" and block == 2
    again = begun(nor, OTHERS)
    assert again.next >= spool.next
    assert again.boot <= 5
    nor.refuses = None
    again = begun(nor, OTHERS)
    assert (again.next, again.fault) == (spool.next, None)


def test_a_write_that_fails_goes_elsewhere():
    nor = Nor(12)
    spool = begun(nor)
    dice = Dice(1)
    nor.refuses = lambda kind, block, offset: kind == "program" and offset > 200 and not dice.below(9)
    for _ in range(500):
        fill(spool, 1)
        if spool.next == 250:
            spool.ack(200)
    nor.refuses = None
    assert spool.errors > 40
    again = Spool(nor, OWNER)
    assert again.next == 500
    assert delivered(again, 0) == delivered(spool, 0)
    numbers = [each for each in delivered(again, 0) if isinstance(each, int)]
    assert numbers == list(range(500))
    reader = again.reader()
    qualities = [0, 0, 0, 0]
    while reader.look() == READING:
        assert reader.unix_ms == BOOTED_MS + reader.seq * 1000 + reader.seq % 1000
        qualities[reader.quality] += 1
        reader.skip()
    assert qualities[0] > 250, qualities  # the boot is told again behind the damage


def test_a_write_that_fails_although_it_was_done_does_not_come_twice():
    class Liar(Nor):
        writes = until = 0

        def writeblocks(self, block, buf, offset=None):
            if self.until > self.writes and not any(buf):
                self.writes += 1
                raise OSError(5)  # nor can the record be undone
            Nor.writeblocks(self, block, buf, offset)
            self.writes += 1
            if offset > 200 and not self.writes % 7:
                self.until = self.writes + 1 + self.writes % 2
                raise OSError(5)

    for batch in (1, 8):
        nor = Liar(8)
        spool = begun(nor, batch=batch)
        fill(spool, 400)
        spool.flush()
        assert spool.errors > 5
        assert delivered(spool) == list(range(400))
        again = Spool(nor, OWNER)
        assert again.next == 400
        assert delivered(again) == list(range(400))


def test_a_batch_that_fails_half_way_does_not_come_twice():
    class Half(Nor):
        writes = 0

        def writeblocks(self, block, buf, offset=None):
            self.writes += 1
            if len(buf) > 48 and offset > 200 and self.writes % 3 == 0:
                Nor.writeblocks(self, block, memoryview(buf)[: len(buf) // 2], offset)
                raise OSError(5)
            Nor.writeblocks(self, block, buf, offset)

    spool = begun(nor := Half(5), batch=8)
    fill(spool, 400)
    spool.flush()
    assert spool.errors > 5
    assert delivered(Spool(nor, OWNER)) == list(range(400))


def test_sectors_that_cannot_be_erased_or_opened():
    for kind, offset in (("erase", 0), ("program", 64), ("program", 16), ("program", 112)):
        nor = Nor(6)
        bad = (1, 3)
        nor.refuses = lambda k, block, o: (k, o) == (kind, offset) and block in bad  # noqa: B023
        spool = begun(nor)
        fill(spool, A_SECTOR * 8)
        assert spool.errors
        found = delivered(spool)
        assert found == [(0, spool.first - 1, "full")] + list(range(spool.first, spool.next))
        assert spool.next - spool.first > A_SECTOR * 2
        again = Spool(nor, OWNER)
        assert (again.next, again.fault) == (spool.next, None), (kind, offset)
        assert delivered(again) == found


def test_a_flash_that_is_dead():
    nor = Nor(4)
    spool = begun(nor)
    fill(spool, 300)
    tried = [0]

    def dead(kind, block, offset):
        tried[0] += 1
        return True

    nor.refuses = dead
    reader = spool.reader()
    fill(spool, 1000)
    spool.ack(200)
    spool.mark(BOOTED_MS, SYNCED)
    next(spool.run())
    assert spool.errors > 100
    assert tried[0] < 20 * 1000  # each append gives up soon
    nor.refuses = lambda kind, block, offset: kind != "read"
    assert reader.look() == READING
    reader.seek(300)
    assert (reader.look(), reader.seq, reader.last, reader.why) == (GAP, 300, 1299, "damaged")
    # It comes back to life, and the next number is a new one.
    nor.refuses = None
    deadline = time.ticks_add(time.ticks_ms(), 10000)
    errors = None
    while errors != spool.errors:
        assert time.ticks_diff(deadline, time.ticks_ms()) > 0
        time.sleep_ms(50)
        errors = spool.errors
        fill(spool, 1)
    assert Spool(nor, OWNER).next == spool.next
    assert delivered(Spool(nor, OWNER), 0)[-1] == spool.next - 1


def test_a_sector_that_cannot_be_read_for_now_is_left_alone():
    nor = Nor(5)
    spool = begun(nor)
    fill(spool, A_SECTOR * 2 + 20)
    nor.refuses = lambda kind, block, offset: kind == "read" and block == 1
    again = begun(nor)
    assert again.errors
    fill(again, A_SECTOR * 2)
    nor.refuses = None
    assert delivered(Spool(nor, OWNER)) == list(range(spool.next + A_SECTOR * 2))


def test_a_read_that_fails_once_is_tried_again():
    nor = Nor(4)
    fill(begun(nor), 400)
    count = [0]

    def refuses(kind, block, offset):
        count[0] += 1
        return kind == "read" and count[0] % 2

    nor.refuses = refuses
    spool = Spool(nor, OWNER)
    assert (delivered(spool), spool.errors) == (list(range(400)), 0)


def test_counts_a_damaged_slot_once():
    nor = Nor(4)
    spool = begun(nor)
    fill(spool, 300)
    for slot in (40, 41, 90):
        nor.data[slot * SLOT + 5] ^= 4
    for _ in range(2):
        found = delivered(spool)
        assert len([each for each in found if not isinstance(each, int)]) == 2
    assert spool.damaged == 3


# Power cuts


class Life:
    """A scenario that is cut again and again, and what an observer outside of the node knows of it."""

    def __init__(self, sectors, batch, seed):
        self.nor = Nor(sectors)
        self.batch = batch
        self.dice = Dice(seed)
        self.confirmed = {}  # number: value
        self.tried = {}  # value of an append that did not come back: number, or None
        self.seen = {}  # number: value
        self.acked = 0
        self.epoch = None
        self.count = 0

    def boot(self, cut=None):
        nor = self.nor
        nor.power_on(cut)
        self.pending = []
        spool = Spool(nor, OWNER)
        assert spool.fault is None and not spool.errors
        assert spool.cursor <= self.acked
        assert not self.confirmed or (spool.epoch, spool.next > max(self.confirmed)) == (self.epoch, True)
        self.epoch = spool.epoch
        self.last_cursor = spool.cursor
        spool.start(CHANNELS, BOOTED_MS, SYNCED, self.batch, 60000)
        return spool

    def run(self, spool, steps):
        chores = spool.run()
        reader = spool.reader()
        at = spool.cursor
        for _ in range(steps):
            for _ in range(1 + self.dice.below(9)):
                self.append(spool)
            if self.dice.below(4):
                for _ in range(self.dice.below(14)):
                    at = self.read(spool, reader, at)
                self.acked = max(self.acked, at)
                spool.ack(at)
            if not self.dice.below(6):
                next(chores)
            if not self.dice.below(30):
                spool.mark(BOOTED_MS, SYNCED)

    def drain(self, spool):
        reader = spool.reader()
        at = spool.cursor
        while reader.look() != END:
            at = self.read(spool, reader, at)
        assert at == spool.next
        self.acked = max(self.acked, at)
        spool.ack(at)

    def append(self, spool):
        self.count += 1
        seq = spool.next
        self.tried[self.count] = seq
        self.pending.append((seq, self.count))
        spool.append(self.count, 0, 0, 0, self.count)
        assert spool.next == seq + 1
        while self.pending and self.pending[0][0] < spool.durable:
            number, count = self.pending.pop(0)
            assert self.confirmed.get(number, count) == count  # it may have been read already
            self.confirmed[number] = count
            self.tried.pop(count, None)
            self.forget(number - 2500)

    def forget(self, number):
        """Numbers so old that no sector can hold them; the heap is small."""
        self.confirmed.pop(number, None)
        self.seen.pop(number, None)

    def read(self, spool, reader, at):
        what = reader.look()
        if what == END:
            return at
        assert what != HELD
        assert reader.seq == at, (reader.seq, at)
        if what == GAP:
            kept = max(self.confirmed, default=0) - (self.nor.sectors - 2) * 220
            for number in range(reader.seq, reader.last + 1):
                if number in self.confirmed:
                    assert reader.why == "full" and number < spool.first <= kept, (number, reader.why)
            at = reader.last + 1
        else:
            number = reader.value
            if at in self.confirmed:
                assert self.confirmed[at] == number
            else:
                assert self.tried.pop(number) == at, "invented"
                self.confirmed[at] = number
            assert self.seen.get(at, number) == number, "a number was used again"
            assert reader.unix_ms == BOOTED_MS + number * 1000
            self.seen[at] = number
            at += 1
        reader.skip()
        return at


def endure(sectors, batch, seed, cuts, steps):
    """Cut the power again and again: after so many operations, in the recovery, everywhere."""
    life = Life(sectors, batch, seed)
    dice = Dice(seed + 1)
    happened = {"before": 0, "torn": 0, "after": 0}
    while sum(happened.values()) < cuts:
        how = ("before", "torn", "after")[dice.below(3)]
        # One in three comes in the first operations after a boot.
        cut = 1 + dice.below(12 if not dice.below(3) else 260), how, dice.below(1 << 20)
        try:
            spool = life.boot(cut)
            life.run(spool, steps)
            life.drain(spool)
        except PowerCut:
            happened[how] += 1
    life.drain(life.boot())
    spool = life.boot()
    life.append(spool)
    life.drain(spool)
    assert min(happened.values()) > cuts // 5
    return life


def test_power_cuts():
    for sectors, batch, seed in ((3, 1, 1), (4, 1, 2), (5, 1, 3), (4, 7, 4)):
        life = endure(sectors, batch, seed, 60, 60)
        assert life.count > 1500
        assert len(life.seen) > 1000
        del life


def test_each_operation_of_opening_a_sector_cut_and_cut_again():
    # Up to the sector's end, then on from each operation of what comes now.
    base = Life(4, 1, 9)
    spool = base.boot()
    while spool.next < A_SECTOR * 3 - 20:
        base.append(spool)
        if spool.next == 500:
            spool.ack(20)
            base.acked = 20
    image = bytes(base.nor.data)
    confirmed = dict(base.confirmed)
    dice = Dice(3)
    for first in range(1, 60):
        for how in ("before", "torn", "after"):
            for second in (0, 1 + dice.below(8)):
                life = Life(4, 1, first)
                life.nor.data[:] = image
                life.confirmed, life.epoch, life.acked = dict(confirmed), base.epoch, 20
                life.count = base.count
                for operation in (first, second):
                    cut = (operation, how, first * 7 + second) if operation else None
                    try:
                        spool = life.boot(cut)
                        for _ in range(45):
                            life.append(spool)
                    except PowerCut:
                        pass
                spool = life.boot()
                life.append(spool)
                life.drain(spool)
                # No number is used but those of readings, and of one that each cut may have spoiled.
                assert spool.next <= life.count + 2, (first, how, second, spool.next, life.count)
