from _flash import SECTOR, Dice
from flash import Nor
from limpet.reader import END, GAP, HELD, READING
from limpet.spool import Spool

OWNER = "n01"
CHANNELS = [
    ("bme280/temperature", "Cel", 2, -4000, 8500, 1000),
    ("bme280/pressure", "Pa", 2, 3000000, 11000000, 1000),
]
T0 = 1800000000  # unix s
T0_MS = T0 * 1000
HOLDOVER, SYNCED, COASTING = 1, 2, 3
BY_SYNC, BY_HOLDOVER, RECOVERED, UNKNOWN = 0, 1, 2, 3
SLOT = 16
A_SECTOR = 245


def begun(nor, offset_ms=0, trust=0):
    spool = Spool(nor, OWNER)
    spool.start(CHANNELS, offset_ms, trust)
    return spool


def times(reader):
    """What comes, as (uptime s, unix ms less uptime, quality, later_s), or "held" at its end, or a gap."""
    found = []
    while True:
        what = reader.look()
        if what == END:
            return found
        if what == HELD:
            return found + ["held"]
        if what == GAP:
            found.append((reader.seq, reader.last, reader.why))
        else:
            found.append((reader.value, reader.unix_ms - reader.value * 1000, reader.quality, reader.later_s))
        reader.skip()


def take(spool, *uptimes):
    for s in uptimes:
        spool.append(s, 0, 0, 0, s)


def test_nothing_yet_and_then_something():
    spool = begun(Nor(3), T0_MS, SYNCED)
    reader = spool.reader()
    assert reader.look() == END
    take(spool, 5)
    for _ in range(3):
        assert reader.look() == READING
        assert (reader.seq, reader.reason, reader.value) == (0, 0, 5)
        assert reader.channel == ("bme280/temperature", "Cel", 2)
        assert (reader.unix_ms, reader.quality, reader.later_s) == (T0_MS + 5000, BY_SYNC, 0)
    reader.skip()
    assert reader.look() == END
    spool.append(6, 789, 1, 4, 0)
    assert (reader.look(), reader.seq, reader.reason, reader.channel[0]) == (READING, 1, 4, "bme280/pressure")
    assert reader.unix_ms == T0_MS + 6789


def test_marks_date_what_comes_behind_them():
    spool = begun(Nor(3), T0_MS, SYNCED)
    take(spool, 1)
    spool.mark(T0_MS + 20, SYNCED)
    take(spool, 2)
    spool.mark(T0_MS + 20, COASTING)
    take(spool, 3)
    spool.mark(T0_MS - 7, SYNCED)
    take(spool, 4)
    assert times(spool.reader()) == [
        (1, T0_MS, BY_SYNC, 0),
        (2, T0_MS + 20, BY_SYNC, 0),
        (3, T0_MS + 20, BY_HOLDOVER, 0),
        (4, T0_MS - 7, BY_SYNC, 0),
    ]


def test_a_boot_without_time_waits_for_it():
    spool = begun(Nor(3))
    take(spool, 1, 2)
    reader = spool.reader()
    assert (reader.look(), reader.look()) == (HELD, HELD)
    spool.mark(T0_MS, SYNCED)
    take(spool, 3)
    assert times(reader) == [(1, T0_MS, RECOVERED, 0), (2, T0_MS, RECOVERED, 0), (3, T0_MS, BY_SYNC, 0)]
    # The same once more, after other marks, from the start and from the middle.
    spool.mark(T0_MS + 99, SYNCED)
    reader.seek(0)
    assert times(reader)[:2] == [(1, T0_MS, RECOVERED, 0), (2, T0_MS, RECOVERED, 0)]
    reader.seek(1)
    assert times(reader)[0] == (2, T0_MS, RECOVERED, 0)


def test_recovered_is_the_same_after_a_reset():
    nor = Nor(3)
    spool = begun(nor)
    take(spool, 1)
    spool.mark(T0_MS, SYNCED)
    spool.mark(T0_MS + 30, SYNCED)
    take(spool, 2)
    expected = [(1, T0_MS, RECOVERED, 0), (2, T0_MS + 30, BY_SYNC, 0)]
    assert times(spool.reader()) == expected
    assert times(begun(nor).reader()) == expected


def test_force_sends_what_is_held():
    spool = begun(Nor(3))
    take(spool, 7)
    reader = spool.reader()
    reader.force = True
    assert reader.look() == READING
    assert (reader.quality, reader.later_s) == (UNKNOWN, None)
    spool.mark(T0_MS, SYNCED)
    assert reader.quality == UNKNOWN  # it stays what it was until skip()
    reader.skip()
    reader.seek(0)
    assert times(reader) == [(7, T0_MS, RECOVERED, 0)]


def test_holdover():
    # The RTC's time is used until a server has told a better one; then for none of this boot's readings.
    nor = Nor(3)
    spool = begun(nor, T0_MS, HOLDOVER)
    take(spool, 1)
    assert times(spool.reader()) == [(1, T0_MS, BY_HOLDOVER, 0)]
    spool.mark(T0_MS + 4000, SYNCED)
    take(spool, 2)
    assert times(spool.reader()) == [(1, T0_MS + 4000, RECOVERED, 0), (2, T0_MS + 4000, BY_SYNC, 0)]
    ended = begun(nor, T0_MS + 50000, HOLDOVER)
    take(ended, 3)
    again = begun(nor)
    assert times(again.reader())[2:] == [(3, T0_MS + 50000, BY_HOLDOVER, 0)]
    # A later boot's time says nothing of an RTC's.
    again.mark(T0_MS + 70000, SYNCED)
    take(again, 4)
    assert times(again.reader())[2:] == [(3, T0_MS + 50000, BY_HOLDOVER, 0), (4, T0_MS + 70000, BY_SYNC, 0)]


def test_a_boot_that_ended_without_time_is_dated_between_its_neighbours():
    nor = Nor(3)
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, 10, 20)
    take(begun(nor), 1, 2)  # begins at T0 + 20 or later
    take(begun(nor, T0_MS - 999, HOLDOVER), 3)  # proves nothing
    spool = begun(nor)
    reader = spool.reader()
    early = [(10, T0_MS, BY_SYNC, 0), (20, T0_MS, BY_SYNC, 0)]
    rtc = (3, T0_MS - 999, BY_HOLDOVER, 0)
    assert times(reader) == early + [
        (1, T0_MS + 20000, UNKNOWN, None),
        (2, T0_MS + 20000, UNKNOWN, None),
        rtc,
    ]
    spool.mark(T0_MS + 3600500, SYNCED)  # this boot's start: those were over by then
    reader.seek(0)
    between = [(1, T0_MS + 20000, UNKNOWN, 3580), (2, T0_MS + 20000, UNKNOWN, 3579)]
    assert times(reader) == early + between + [rtc]
    take(spool, 60)
    again = begun(nor)
    assert times(again.reader()) == early + between + [rtc, (60, T0_MS + 3600500, BY_SYNC, 0)]
    # And a boot at its end is not older than what this one proved.
    take(again, 1)
    again = begun(nor)
    assert times(again.reader())[-1] == (1, T0_MS + 3660000 + 0, UNKNOWN, None)


def test_a_later_boot_learns_the_time_while_an_older_one_is_read():
    nor = Nor(3)
    take(begun(nor), 5, 6)
    spool = begun(nor)
    take(spool, 7)
    reader = spool.reader()
    assert (reader.look(), reader.quality, reader.later_s) == (READING, UNKNOWN, None)
    reader.skip()
    spool.mark(T0_MS, SYNCED)
    assert (reader.look(), reader.quality, reader.value) == (READING, UNKNOWN, 6)
    assert reader.unix_ms + reader.later_s * 1000 == T0_MS


def test_the_time_of_a_boot_is_found_sectors_later():
    nor = Nor(8)
    spool = begun(nor)
    take(spool, *range(A_SECTOR * 4))
    spool.mark(T0_MS, SYNCED)
    take(spool, *range(1000, 1000 + A_SECTOR))
    spool.mark(T0_MS + 500, SYNCED)
    take(spool, 2000)
    again = begun(nor)
    nor.power_on()
    found = times(again.reader())
    assert found[: A_SECTOR * 4] == [(s, T0_MS, RECOVERED, 0) for s in range(A_SECTOR * 4)]
    assert found[-2:] == [(1000 + A_SECTOR - 1, T0_MS, BY_SYNC, 0), (2000, T0_MS + 500, BY_SYNC, 0)]
    # It was searched for once, by headers and in one sector.
    assert nor.read < (A_SECTOR * 5 + 40) * SLOT + 5 * SECTOR + 40 * 64, nor.read


def test_the_bound_of_an_ended_boot_is_found_sectors_later():
    nor = Nor(8)
    take(begun(nor), *range(A_SECTOR + 10))
    take(begun(nor), *range(A_SECTOR * 2))
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, 1)
    spool.mark(T0_MS + 900, SYNCED)
    take(spool, *range(2, A_SECTOR * 2))
    floor_ms = Spool(nor, OWNER).reader()
    assert floor_ms.look() == READING
    floor_ms = floor_ms.unix_ms  # what the firmware itself proves
    for found in (times(spool.reader()), times(begun(nor).reader())):
        for s, base_ms, quality, later_s in found[: A_SECTOR * 3 + 10]:
            assert (base_ms, quality) == (floor_ms, UNKNOWN)
            assert later_s == (T0_MS - floor_ms) // 1000 - s
        assert found[A_SECTOR * 3 + 10] == (1, T0_MS, BY_SYNC, 0)


def test_a_damaged_time_or_boot_record_makes_no_wrong_time():
    nor = Nor(3)
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, 1)
    spool.mark(T0_MS + 5000, SYNCED)
    mark = nor.programs
    take(spool, 2, 3)
    assert mark
    image = bytes(nor.data)
    first = slots(nor)[0]
    # BOOT, TIME, reading, TIME, reading, reading
    nor.data[(first + 3) * SLOT + 2] ^= 1
    assert times(begun(nor).reader()) == [
        (1, T0_MS, BY_SYNC, 0),
        (2, T0_MS, UNKNOWN, None),  # the earliest: it was 5 s later
        (3, T0_MS, UNKNOWN, None),
    ]
    nor.data[:] = image
    # A BOOT record: the readings behind it are of nobody knows which boot.
    later = begun(nor)
    take(later, 4)
    third = begun(nor)
    take(third, 9)
    third.mark(T0_MS + 60000, SYNCED)
    nor.data[(first + 6) * SLOT + 2] ^= 1
    again = begun(nor)
    assert again.boot > 3
    assert times(again.reader()) == [
        (1, T0_MS, BY_SYNC, 0),
        (2, T0_MS + 5000, BY_SYNC, 0),
        (3, T0_MS + 5000, BY_SYNC, 0),
        # Of the first boot, 4 s after its start, or of a later one: at most 4 s after the third's start.
        (4, T0_MS + 5000, UNKNOWN, 55),
        (9, T0_MS + 60000, RECOVERED, 0),
    ]


def test_no_boot_has_the_number_of_one_whose_record_is_damaged():
    nor = Nor(3)
    for boot in (1, 2, 3):
        spool = begun(nor, T0_MS * boot, SYNCED)
        take(spool, 5)
    for record in (3, 6):  # the second and third BOOT
        nor.data[(slots(nor)[0] + record) * SLOT + 5] ^= 1
    again = begun(nor, T0_MS * 4, SYNCED)
    assert again.boot > 3
    take(again, 5)
    assert times(begun(nor).reader()) == [(5, T0_MS * boot, BY_SYNC, 0) for boot in (1, 2, 3, 4)]


def slots(nor):
    """The slots of the first sector that hold records."""
    found = []
    for slot in range(7, 255):
        data = bytes(nor.data[slot * SLOT : (slot + 1) * SLOT])
        if data != b"\xff" * SLOT:
            found.append(slot)
    while found and nor.data[found[0] * SLOT] != 0x80:
        found.pop(0)
    return found


def test_a_damaged_record_in_a_boot_that_went_on():
    nor = Nor(4)
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, *range(70))
    spool.ack(65)
    take(spool, *range(70, A_SECTOR * 2))
    place = slots(nor)[0] + 2 + 70  # the ACK record
    assert nor.data[place * SLOT] == 0x82
    nor.data[place * SLOT + 3] ^= 0x10
    again = begun(nor)
    reader = again.reader()
    reader.seek(0)
    found = times(reader)
    assert [each[:2] for each in found] == [(s, T0_MS) for s in range(A_SECTOR * 2)]
    assert found[69][2] == BY_SYNC and found[-1][2] == BY_SYNC
    assert {each[2] for each in found} == {BY_SYNC, RECOVERED}
    assert again.damaged == 1


def test_gaps():
    nor = Nor(4)
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, *range(30))
    first = slots(nor)[0] + 2
    for seq in (0, 10, 11, 12, 29):
        nor.data[(first + seq) * SLOT + 7] ^= 0x40
    again = begun(nor, T0_MS, SYNCED)
    take(again, 30)
    reader = again.reader()
    found = times(reader)
    gaps = [each for each in found if len(each) == 3]
    assert gaps == [(0, 0, "damaged"), (10, 12, "damaged"), (29, 29, "damaged")]
    assert [each[0] for each in found if len(each) == 4] == list(range(1, 10)) + list(range(13, 29)) + [30]
    # From anywhere within, the same.
    for seq in range(31):
        reader.seek(seq)
        assert reader.look() == (GAP if seq in (0, 10, 11, 12, 29) else READING), seq
        assert reader.seq == seq
        if reader.look() == GAP:
            assert reader.last == {0: 0, 29: 29}.get(seq, 12)


def test_seek_forth_and_back():
    nor = Nor(6)
    spool = begun(nor, T0_MS, SYNCED)
    count = A_SECTOR * 4
    take(spool, *range(count))
    reader = spool.reader()
    dice = Dice(5)
    for _ in range(150):
        at = dice.below(count)
        reader.seek(at)
        for seq in range(at, min(at + dice.below(5), count)):
            assert (reader.look(), reader.seq, reader.value) == (READING, seq, seq)
            if not dice.below(4):
                break  # looked, and not skipped
            reader.skip()
    reader.seek(count)
    assert reader.look() == END


def test_what_is_dropped_under_the_reader_is_a_gap():
    nor = Nor(3)
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, *range(20))
    reader = spool.reader()
    for _ in range(5):
        reader.look()
        reader.skip()
    assert (reader.look(), reader.value) == (READING, 5)
    take(spool, *range(20, A_SECTOR * 5))
    assert spool.first > 5
    assert (reader.look(), reader.value) == (READING, 5)  # it is in RAM, and can still be sent
    reader.skip()
    assert (reader.look(), reader.seq, reader.last, reader.why) == (GAP, 6, spool.first - 1, "full")
    take(spool, *range(A_SECTOR * 5, A_SECTOR * 6))
    last = reader.last
    reader.skip()
    assert (reader.look(), reader.seq, reader.last, reader.why) == (GAP, last + 1, spool.first - 1, "full")
    reader.skip()
    assert times(reader) == [(s, T0_MS, BY_SYNC, 0) for s in range(spool.first, A_SECTOR * 6)]


def test_the_low_byte_wraps():
    nor = Nor(4)
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, *range(600))
    # 200 slots in a row are not 200 ± 256 numbers.
    first = slots(nor)[0] + 2
    nor.data[(first + 20) * SLOT : (first + 220) * SLOT] = bytes(200 * SLOT)
    again = Spool(nor, OWNER)
    found = times(again.reader())
    assert [each for each in found if len(each) == 3] == [(20, 219, "damaged")]
    assert len(found) == 600 - 200 + 1


def test_a_damaged_channel_table_is_found_elsewhere():
    nor = Nor(4)
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, *range(A_SECTOR * 2))
    everything = [(s, T0_MS, BY_SYNC, 0) for s in range(A_SECTOR * 2)]
    nor.data[120] ^= 1
    assert times(begun(nor).reader()) == everything  # its own table of this boot
    assert times(Spool(nor, OWNER).reader()) == everything  # the other sector's
    for place in (1, 2):
        nor.sector(place)[120] ^= 1
    spool = Spool(nor, OWNER)
    found = times(spool.reader())
    assert [each[2] for each in found] == ["damaged"] * 3
    assert (found[0][0], found[-1][1]) == (0, spool.next - 1)
    # A sector with a damaged table is not continued: nobody could read what it says.
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, 1)
    assert times(Spool(nor, OWNER).reader()) == everything + [(1, T0_MS, BY_SYNC, 0)]


def test_a_record_is_bound_to_its_sector():
    # The same bytes in another sector, as after a mistake of the flash's address lines.
    nor = Nor(4)
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, *range(A_SECTOR * 2))
    nor.data[SECTOR + 100 * SLOT : SECTOR + 103 * SLOT] = nor.data[100 * SLOT : 103 * SLOT]
    found = times(Spool(nor, OWNER).reader())
    assert len([each for each in found if len(each) == 3]) == 1
    assert len(found) == A_SECTOR * 2 - 3 + 1


def test_a_sector_that_cannot_be_read_is_a_gap():
    nor = Nor(5)
    spool = begun(nor, T0_MS, SYNCED)
    take(spool, *range(A_SECTOR * 3))
    bases = sorted(spool.base(place) for place in range(5))
    nor.refuses = lambda kind, block, offset: kind == "read" and block == 1
    found = times(spool.reader())
    assert [each for each in found if len(each) == 3] == [(bases[1], bases[2] - 1, "damaged")]
    assert spool.errors
