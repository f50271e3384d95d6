"""Makes tests/vectors/spool.json from docs/formats.md, with no help from the code under test.

Run it from anywhere: `python tests/vectors/make_spool.py`. What a reader must find is written down here by
hand, case by case, never computed by a reader.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("spool.json")

SECTOR, SLOT = 4096, 16
NODE = "n01"
EPOCH = 0x1A2B3C4D
HOUR = 3600
T0 = 1_763_820_000  # 2025-11-22 14:00:00 UTC
RTC, SYNCED, COASTING = 1, 2, 3
TEMPERATURE = ("bme280/temperature", "Cel", 2)
PRESSURE = ("bme280/pressure", "Pa", 2)
WIND = ("wind/speed", "m/s", 2)
CHANNELS = (TEMPERATURE, PRESSURE, WIND)


def crc(data: bytes, seed: int = 0) -> int:
    return zlib.crc32(data, seed)


class Sector:
    """One sector, built as a node would. `open` begins it; then records are put into slot after slot."""

    def __init__(self) -> None:
        self.data = bytearray(b"\xff" * SECTOR)
        self.erases: int | None = None

    def prepare(self, erases: int = 1) -> "Sector":
        part = b"LPSP" + bytes([1, 0, 0, 0]) + struct.pack("<I", erases)
        self.put(0, part + struct.pack("<I", crc(part)))
        self.erases = erases
        return self

    def open(
        self,
        base: int = 0,
        *,
        boot: int = 1,
        erases: int = 1,
        cursor: int = 0,
        proof: int = 0,
        time: tuple[int, int] = (0, 0),  # offset in ms, trust
        channels: tuple[tuple[str, str, int], ...] = CHANNELS,
        node: str = NODE,
        epoch: int = EPOCH,
    ) -> "Sector":
        self.prepare(erases)
        table = "".join(f"{name},{unit},{decimals}\n" for name, unit, decimals in channels).encode()
        part = struct.pack("<5I", epoch, crc(node.encode()), base, boot, proof)
        part += time[0].to_bytes(6, "little", signed=True) + bytes([time[1], 0])
        part += struct.pack("<IHHII", cursor, len(table), 0, crc(table), 0)
        self.seed = crc(part)
        part += struct.pack("<I", self.seed)
        assert len(part) == 48
        self.put(16, part)
        self.put(64, part)
        self.put(112, table)
        self.slot = 7 + -(-len(table) // SLOT)
        self.seq = base
        return self

    def put(self, at: int, data: bytes) -> None:
        self.data[at : at + len(data)] = data

    def record(self, kind: int, body: bytes, slot: int | None = None) -> "Sector":
        assert len(body) == 10
        twelve = bytes([kind, self.seq & 0xFF]) + body
        self.put(
            SLOT * (self.slot if slot is None else slot), twelve + struct.pack("<I", crc(twelve, self.seed))
        )
        self.slot += slot is None
        return self

    def reading(self, uptime_ms: int, value: int, channel: int = 0, reason: int = 0) -> "Sector":
        s, ms = divmod(uptime_ms, 1000)
        self.record(reason, struct.pack("<IHi", s, ms << 6 | channel, value))
        self.seq += 1
        return self

    def boot(self, number: int, cause: int = 1) -> "Sector":
        return self.record(0x80, struct.pack("<IB5x", number, cause))

    def time(self, offset_ms: int, trust: int = SYNCED) -> "Sector":
        return self.record(0x81, offset_ms.to_bytes(6, "little", signed=True) + bytes([trust, 0, 0, 0]))

    def ack(self, cursor: int) -> "Sector":
        return self.record(0x82, struct.pack("<I6x", cursor))

    def close(self, cursor: int) -> "Sector":
        return self.record(0x82, struct.pack("<I6x", cursor), slot=255)

    def flip(self, at: int, bits: int = 1) -> "Sector":
        self.data[at] ^= bits
        return self

    def torn(self, at: int, end: int) -> "Sector":
        """Undo the programming of these bytes: the power went before."""
        self.put(at, b"\xff" * (end - at))
        return self

    def bad(self, number: bool = True) -> "Sector":
        """A slot that holds no valid record; `number`: it was a reading's."""
        self.put(SLOT * self.slot, b"\x00\xa5" + b"\xff" * 14)
        self.slot += 1
        self.seq += number
        return self

    def fill(self, data: bytes) -> "Sector":
        self.put(0, data)
        return self

    def cut_opening(self, whole: "Sector", end: int) -> "Sector":
        """Begin as `whole` does, until byte `end`."""
        self.put(16, bytes(whole.data[16:end]))
        return self

    def dead(self) -> "Sector":
        """Both parts B fail their CRC."""
        return self.flip(20).flip(68)

    def runs(self) -> list[tuple[int, str]]:
        """What is not 0xFF: pairs of offset and hex."""
        found = []
        at = 0
        while at < SECTOR:
            if self.data[at : at + SLOT] == b"\xff" * SLOT:
                at += SLOT
                continue
            end = at
            while end < SECTOR and self.data[end : end + SLOT] != b"\xff" * SLOT:
                end += SLOT
            found.append((at, self.data[at:end].hex()))
            at = end
        return found


Item = list[Any]


def got(
    seq: int,
    unix_ms: int,
    value: int,
    channel: int = 0,
    reason: int = 0,
    quality: str = "synced",
    later_s: int | None = 0,
    channels: tuple[tuple[str, str, int], ...] = CHANNELS,
) -> Item:
    return [seq, *channels[channel], reason, value, unix_ms, quality, later_s]


def full(first: int, last: int) -> Item:
    return [first, last, "full"]


def damaged(first: int, last: int) -> Item:
    return [first, last, "damaged"]


def case(
    name: str,
    sectors: list[Sector],
    states: str,
    items: list[Item],
    *,
    boot: int = 1,
    cursor: int = 0,
    first: int = 0,
    next: int,
    proof: int = T0,
    bad: int = 0,
    epoch: int | None = EPOCH,
) -> dict[str, Any]:
    """`states`: a letter a sector: blank, prepared, live, free, damaged. `bad`: slots without a record."""
    words = {word[0]: word for word in ("blank", "prepared", "live", "free", "damaged")}
    assert len(states) == len(sectors)
    return {
        "name": name,
        "node": NODE,
        "sectors": [sector.runs() for sector in sectors],
        "states": [words[letter] for letter in states],
        "erases": [sector.erases for sector in sectors],
        "epoch": None if epoch is None else f"{epoch:08x}",
        "boot": boot,
        "cursor": cursor,
        "first": first,
        "next": next,
        "proof": proof,
        "damaged": bad,
        "items": items,
    }


AT0 = T0 * 1000  # ms
KNOWN = (AT0, SYNCED)


def begun(base: int = 0, **options: Any) -> Sector:
    """A sector of a boot whose time is known from the start: it began at T0."""
    return Sector().open(base, **{"time": KNOWN, "proof": T0, **options})


def cases() -> list[dict[str, Any]]:
    return [*plain(), *times(), *ring(), *damages()]


def plain() -> list[dict[str, Any]]:
    blank = Sector()
    few = Sector().open().boot(1).time(AT0).reading(1_000, 2130).reading(1_000, 10065327, 1)
    few.reading(1_250, 0, 2, 6).reading(2_001, -5)
    extreme = begun(4_000_000_000, boot=70_000, erases=90_000, cursor=4_000_000_000)
    extreme.reading(999, -(2**31)).reading(2**31 * 1000 + 7, 2**31 - 1, 2, 11)
    many = tuple((f"c{i}/quantity.of:it", "%RH", 6) for i in range(32))
    wide = begun(channels=many).reading(5_000, 7, 31)
    last = begun(250)
    for i in range(10):
        last.reading(1_000 * i, i)
    return [
        case("fresh", [blank, blank, blank], "bbb", [], boot=0, next=0, proof=0, epoch=None),
        case(
            "a few readings",
            [few, Sector(), Sector(), Sector()],
            "lbbb",
            [
                got(0, AT0 + 1_000, 2130),
                got(1, AT0 + 1_000, 10065327, 1),
                got(2, AT0 + 1_250, 0, 2, 6),
                got(3, AT0 + 2_001, -5),
            ],
            next=4,
            proof=T0 + 2,
        ),
        case(
            "the largest numbers",
            [extreme, Sector(), Sector()],
            "lbb",
            [
                got(4_000_000_000, AT0 + 999, -(2**31)),
                got(4_000_000_001, AT0 + 2**31 * 1000 + 7, 2**31 - 1, 2, 11),
            ],
            boot=70_000,
            cursor=4_000_000_000,
            first=4_000_000_000,
            next=4_000_000_002,
            proof=T0 + 2**31,
        ),
        case(
            "32 channels",
            [Sector(), wide, Sector()],
            "blb",
            [got(0, AT0 + 5_000, 7, 31, channels=many)],
            next=1,
            proof=T0 + 5,
        ),
        case(
            "low byte of the sequence number wraps",
            [last, Sector(), Sector()],
            "lbb",
            [got(250 + i, AT0 + 1_000 * i, i) for i in range(10)],
            first=250,
            cursor=0,
            next=260,
            proof=T0 + 9,
        )
        | {"items": [full(0, 249), *(got(250 + i, AT0 + 1_000 * i, i) for i in range(10))]},
    ]


def times() -> list[dict[str, Any]]:
    """How readings are dated."""
    slewed = Sector().open().boot(1)
    slewed.reading(1_000, 1).time(AT0 - 40, RTC).reading(2_000, 2)
    slewed.time(AT0).reading(3_000, 3).time(AT0 + 25).reading(4_000, 4).time(AT0 + 25, COASTING)
    slewed.reading(5_000, 5).time(AT0 + 50).reading(6_000, 6)
    holdover = Sector().open().boot(1).time(AT0, RTC).reading(1_500, 1).time(AT0 + 30, RTC).reading(2_500, 2)
    # Boot 2 never learns the time, boot 3 begins two hours after the last that is known of boot 1.
    lost = Sector().open(proof=T0 - 60).boot(1).time(AT0).reading(10_000, 1)
    lost.boot(2).reading(500, 2).reading(60_500, 3)
    lost.boot(3).reading(1_000, 4).time(AT0 + 2 * HOUR * 1000).reading(9_000, 5)
    ended = Sector().open(proof=T0).boot(1).reading(5_000, 1).boot(2).reading(6_000, 2)
    # The boot's time is in the header alone: the sector that held its TIME record is gone.
    again = begun().boot(1).reading(1_000, 1).boot(1).reading(2_000, 2)
    unsure = Sector().open(boot=1, proof=T0).boot(1).reading(5_000, 1).close(0)
    behind = Sector().open(1, boot=3, proof=T0 + 5_000).boot(3).reading(1_000, 2)
    header = begun(300, boot=4, cursor=300).reading(7_000, 1).boot(5).reading(1_000, 2).time(AT0 + 20_000)
    later = begun(boot=1).reading(1_000, 1).close(0)
    opened = Sector().open(1, boot=2, proof=T0 + 1).boot(2).reading(1_000, 2).close(0)
    third = Sector().open(2, boot=2, proof=T0 + 1).reading(2_000, 3).time(AT0 + 30_000).reading(3_000, 4)
    return [
        case(
            "RTC, then synced, slewed, coasting",
            [slewed, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 1_000, 1, quality="recovered"),
                got(1, AT0 + 2_000, 2, quality="recovered"),
                got(2, AT0 + 3_000, 3),
                got(3, AT0 + 4_025, 4),
                got(4, AT0 + 5_025, 5, quality="holdover"),
                got(5, AT0 + 6_050, 6),
            ],
            next=6,
            proof=T0 + 6,
        ),
        case(
            "RTC alone",
            [holdover, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 1_500, 1, quality="holdover"),
                got(1, AT0 + 2_530, 2, quality="holdover"),
            ],
            next=2,
            proof=0,
        ),
        case(
            "a boot that never learnt the time, between two that did",
            [lost, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 10_000, 1),
                got(1, AT0 + 10_500, 2, quality="unknown", later_s=2 * HOUR - 10),
                got(2, AT0 + 70_500, 3, quality="unknown", later_s=2 * HOUR - 70),
                got(3, AT0 + 2 * HOUR * 1000 + 1_000, 4, quality="recovered"),
                got(4, AT0 + 2 * HOUR * 1000 + 9_000, 5),
            ],
            boot=3,
            next=5,
            proof=T0 + 2 * HOUR + 9,
        ),
        case(
            "boots that never learnt the time, and nothing behind them",
            [ended, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 5_000, 1, quality="unknown", later_s=None),
                got(1, AT0 + 6_000, 2, quality="unknown", later_s=None),
            ],
            boot=2,
            next=2,
        ),
        case(
            "a BOOT record of the boot that goes on",
            [again, Sector(), Sector()],
            "lbb",
            [got(0, AT0 + 1_000, 1), got(1, AT0 + 2_000, 2)],
            next=2,
            proof=T0 + 2,
        ),
        case(
            "a time that only the proof behind it tells of",
            [unsure, behind, Sector()],
            "llb",
            [
                got(0, AT0 + 5_000, 1, quality="unknown", later_s=5_001),
                got(1, AT0 + 5_001_000, 2, quality="unknown", later_s=None),
            ],
            boot=3,
            next=2,
            proof=T0 + 5_000,
        ),
        case(
            "the time that stands in a header",
            [Sector(), header, Sector()],
            "blb",
            [
                got(300, AT0 + 7_000, 1),
                got(301, AT0 + 21_000, 2, quality="recovered"),
            ],
            boot=5,
            first=300,
            cursor=300,
            next=302,
            proof=T0 + 21,
        ),
        case(
            "the time comes in a later sector of the boot",
            [later, opened, third],
            "lll",
            [
                got(0, AT0 + 1_000, 1),
                got(1, AT0 + 31_000, 2, quality="recovered"),
                got(2, AT0 + 32_000, 3, quality="recovered"),
                got(3, AT0 + 33_000, 4),
            ],
            boot=2,
            next=4,
            proof=T0 + 33,
        ),
    ]


def ring() -> list[dict[str, Any]]:
    """Sectors in their order, acknowledged or not, and those that are not of the ring."""

    def filled(base: int, step_ms: int = 1_000, **options: Any) -> Sector:
        sector = begun(base, **options)
        while sector.slot < 255:
            sector.reading(sector.seq * step_ms, sector.seq, sector.seq % 3)
        return sector

    def of(seq: int) -> Item:
        return got(seq, AT0 + seq * 1_000, seq, seq % 3)

    room = filled(0).seq
    first, second = filled(room), filled(2 * room, cursor=room + 100)
    third = begun(3 * room, cursor=2 * room + 7, erases=2)
    third.reading(3 * room * 1_000, 3 * room, 3 * room % 3).ack(2 * room + 64)
    first.close(room + 100)
    second.close(2 * room + 7)

    def small(base: int, count: int = 2, cursor: int = 0, **options: Any) -> Sector:
        sector = begun(base, cursor=cursor, **options)
        for _ in range(count):
            sector.reading(sector.seq * 1_000, sector.seq, sector.seq % 3)
        return sector

    other = (("probe/temperature", "Cel", 4), WIND)
    changed = begun(2, boot=2, time=(0, 0), channels=other).boot(2).time(AT0 + HOUR * 1000)
    changed.reading(1_000, 3, 1).reading(1_500, 190625)
    bare = Sector().open(3, boot=7, cursor=1, time=KNOWN, proof=T0, channels=other).boot(7).close(1)
    return [
        case(
            "wrap-around, the cursor in the second sector",
            [third, Sector().prepare(2), first, second],
            "lpll",
            [of(seq) for seq in range(room, 3 * room + 1)],
            first=room,
            cursor=2 * room + 64,
            next=3 * room + 1,
            proof=T0 + 3 * room,
        ),
        case(
            "full: the oldest are gone",
            [
                small(20, cursor=7),
                small(12, 4).close(7),
                small(16, 4, cursor=7).close(7),
                Sector().prepare(9),
            ],
            "lllp",
            [full(7, 11), *map(of, range(12, 22))],
            first=12,
            cursor=7,
            next=22,
            proof=T0 + 21,
        ),
        case(
            "all acknowledged, in the last record",
            [small(4).ack(6), small(0, 4).close(3), Sector()],
            "llb",
            [of(seq) for seq in range(6)],
            cursor=6,
            next=6,
            proof=T0 + 5,
        ),
        case(
            "a prepared sector",
            [small(0), Sector().prepare(17), Sector()],
            "lpb",
            [of(0), of(1)],
            next=2,
            proof=T0 + 1,
        ),
        case(
            "swapped sectors",
            [small(4), Sector(), small(2).close(0), small(0).close(0)],
            "lbll",
            [of(seq) for seq in range(6)],
            next=6,
            proof=T0 + 5,
        ),
        case(
            "another node's sectors among ours",
            [small(100, node="n02", cursor=100), small(0), small(500, node="n02", epoch=0x99)],
            "flf",
            [of(0), of(1)],
            next=2,
            proof=T0 + 1,
        ),
        case(
            "another node's alone",
            [small(100, node="n02"), small(103, node="n02"), Sector()],
            "ffb",
            [],
            boot=0,
            next=0,
            proof=0,
            epoch=None,
        ),
        case(
            "other channels after a deploy",
            [small(0).close(0), changed, Sector()],
            "llb",
            [
                of(0),
                of(1),
                got(2, AT0 + HOUR * 1000 + 1_000, 3, 1, channels=other),
                got(3, AT0 + HOUR * 1000 + 1_500, 190625, 0, channels=other),
            ],
            boot=2,
            next=4,
            proof=T0 + HOUR + 1,
        ),
        case(
            "a sector without readings has the number of the one behind it",
            [small(3, boot=8).ack(1), small(0, 3).close(1), bare],
            "llf",
            [of(seq) for seq in range(5)],
            boot=8,
            cursor=1,
            next=5,
            proof=T0 + 4,
        ),
    ]


def damages() -> list[dict[str, Any]]:
    def of(seq: int) -> Item:
        return got(seq, AT0 + seq * 1_000, seq)

    def small(base: int, count: int = 3, **options: Any) -> Sector:
        sector = begun(base, **options)
        for _ in range(count):
            sector.reading(sector.seq * 1_000, sector.seq)
        return sector

    record = small(0, 5)
    record.flip(SLOT * (record.slot - 3) + 9, 0x20)
    two = small(0, 6)
    two.flip(SLOT * (two.slot - 4)).flip(SLOT * (two.slot - 3) + 15, 0x80)
    tail = small(0).bad()
    after = small(0).bad().boot(2).time(AT0 + 50_000).reading(1_000, 9)
    ack = small(0).ack(2).reading(3_000, 3)
    ack.flip(SLOT * (ack.slot - 2) + 3)
    unopened = Sector().prepare(4).cut_opening(begun(3), 16 + 30)
    tableless = small(3, 0, proof=T0 + 2)
    tableless.torn(112 + 16, 112 + 80)
    newest = small(3).dead()
    # BOOT, TIME, reading, BOOT, reading, TIME, reading, BOOT, reading: the second BOOT record rots.
    begun_anew = Sector().open(proof=T0 - 99).boot(1).time(AT0).reading(9_000, 1).boot(2).reading(1_000, 2)
    begun_anew.time(AT0 + 30_000).reading(2_000, 3).boot(3).reading(4_000, 4)
    begun_anew.flip(SLOT * (begun_anew.slot - 6) + 5, 0x40)
    # A TIME record rots, and for all that anybody knows it was a BOOT record.
    untimed = Sector().open(proof=T0 - 99).boot(1).time(AT0).reading(9_000, 1).time(AT0 + 25)
    untimed.reading(10_000, 2).ack(1).reading(11_000, 3).boot(2).time(AT0 + 60_000).reading(3_000, 4)
    untimed.flip(SLOT * (untimed.slot - 7) + 1)
    # Boot 2 may go on behind the damaged record, or not: the time that comes there is not for it.
    doubtful = Sector().open(proof=T0).boot(1).boot(2).reading(1_000, 1).boot(3).reading(2_000, 2)
    doubtful.time(AT0 + 500_000).reading(3_000, 3)
    doubtful.flip(SLOT * (doubtful.slot - 4) + 4)
    # But the boot of the next sector is known, and it is the same.
    goes_on = Sector().open(proof=T0).boot(1).reading(1_000, 1).ack(0).reading(2_000, 2)
    goes_on.flip(SLOT * (goes_on.slot - 2) + 4).close(0)
    next_one = begun(2, time=(AT0 + 7_000, SYNCED)).reading(10_000, 3)
    # Twice.
    twice = begun().reading(1_000, 1).ack(0).reading(2_000, 2).ack(0).reading(3_000, 3)
    twice.flip(SLOT * (twice.slot - 2) + 4).flip(SLOT * (twice.slot - 4) + 4)
    same = begun().reading(1_000, 1).ack(0).reading(2_000, 2).boot(1).reading(3_000, 3)
    same.flip(SLOT * (same.slot - 4) + 4)
    gone = begun().reading(1_000, 1).ack(0).reading(2_000, 2)
    gone.torn(SLOT * (gone.slot - 2), SLOT * (gone.slot - 1))
    wiped = small(0, 240)
    wiped.torn(SLOT * 20, SLOT * 180)
    torn_close = small(0).close(0).torn(SLOT * 255 + 7, SLOT * 256)
    tables = [small(0, 2).flip(112 + 3).close(0), small(2, 2).close(0), small(4, 2)]
    alone = small(0, 2).flip(112 + 3)
    return [
        case(
            "a damaged reading",
            [record, Sector(), Sector()],
            "lbb",
            [of(0), of(1), damaged(2, 2), of(3), of(4)],
            next=5,
            proof=T0 + 4,
            bad=1,
        ),
        case(
            "two damaged readings side by side",
            [two, Sector(), Sector()],
            "lbb",
            [of(0), of(1), damaged(2, 3), of(4), of(5)],
            next=6,
            proof=T0 + 5,
            bad=2,
        ),
        case(
            "the last record torn: its number is used",
            [tail, Sector(), Sector()],
            "lbb",
            [of(0), of(1), of(2), damaged(3, 3)],
            next=4,
            proof=T0 + 2,
            bad=1,
        ),
        case(
            "a torn record, and a boot behind it",
            [after, Sector(), Sector()],
            "lbb",
            [of(0), of(1), of(2), damaged(3, 3), got(4, AT0 + 51_000, 9)],
            boot=2,
            next=5,
            proof=T0 + 51,
            bad=1,
        ),
        case(
            "a damaged header with a good copy",
            [small(0).flip(30), Sector(), Sector()],
            "lbb",
            [of(0), of(1), of(2)],
            next=3,
            proof=T0 + 2,
        ),
        case(
            "a damaged copy",
            [small(0).flip(64 + 30), Sector(), Sector()],
            "lbb",
            [of(0), of(1), of(2)],
            next=3,
            proof=T0 + 2,
        ),
        case(
            "both headers of a sector between two damaged",
            [small(0).close(0), small(3).dead().close(0), small(6)],
            "ldl",
            [of(0), of(1), of(2), damaged(3, 5), of(6), of(7), of(8)],
            next=9,
            proof=T0 + 8,
        ),
        case(
            "both headers of the newest damaged: no number comes again",
            [small(0).close(0), newest, Sector().prepare(5)],
            "ldp",
            [of(0), of(1), of(2), damaged(3, 3 + 255)],
            next=3 + 256,
            proof=T0 + 2,
        ),
        case(
            "the newest wiped: no number comes again",
            [small(3).close(0), Sector(), Sector(), small(0).close(0)],
            "lbbl",
            [*map(of, range(6)), damaged(6, 6 + 511)],
            next=6 + 512,
            proof=T0 + 5,
        ),
        case(
            "behind the newest another node's sector, where ours may have been",
            [small(0).close(0), small(7, node="n02"), Sector().prepare(2)],
            "lfp",
            [*map(of, range(3)), damaged(3, 3 + 255)],
            next=3 + 256,
            proof=T0 + 2,
        ),
        case(
            "behind the newest a prepared sector, and blank ones",
            [Sector(), small(0).close(0), Sector().prepare(2), Sector()],
            "blpb",
            [*map(of, range(3))],
            next=3,
            proof=T0 + 2,
        ),
        case(
            "a damaged record that began a boot",
            [begun_anew, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 9_000, 1),
                got(1, AT0 + 31_000, 2, quality="recovered"),
                got(2, AT0 + 32_000, 3),
                got(3, (T0 + 32) * 1000 + 4_000, 4, quality="unknown", later_s=None),
            ],
            boot=4,
            next=4,
            proof=T0 + 32,
            bad=1,
        ),
        case(
            "a damaged record that told the time",
            [untimed, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 9_000, 1),
                got(1, AT0 + 10_000, 2, quality="unknown", later_s=60),
                got(2, AT0 + 11_000, 3, quality="unknown", later_s=60),
                got(3, AT0 + 63_000, 4),
            ],
            boot=3,
            cursor=1,
            next=4,
            proof=T0 + 63,
            bad=1,
        ),
        case(
            "a time behind a damaged record is not the boot's before it",
            [doubtful, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 1_000, 1, quality="unknown", later_s=500),
                got(1, AT0 + 502_000, 2, quality="recovered"),
                got(2, AT0 + 503_000, 3),
            ],
            boot=3,
            next=3,
            proof=T0 + 503,
            bad=1,
        ),
        case(
            "a damaged record, and the same boot in the next sector",
            [goes_on, next_one, Sector()],
            "llb",
            [
                got(0, AT0 + 8_000, 1, quality="recovered"),
                got(1, AT0 + 9_000, 2, quality="recovered"),
                got(2, AT0 + 17_000, 3),
            ],
            next=3,
            proof=T0 + 17,
            bad=1,
        ),
        case(
            "two damaged records that were no readings",
            [twice, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 1_000, 1),
                got(1, AT0 + 2_000, 2, quality="unknown", later_s=None),
                got(2, AT0 + 3_000, 3, quality="unknown", later_s=None),
            ],
            boot=3,
            next=3,
            proof=T0 + 1,
            bad=2,
        ),
        case(
            "a damaged record that was no reading, and the boot told again without its time",
            [same, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 1_000, 1),
                got(1, AT0 + 2_000, 2, quality="unknown", later_s=None),
                got(2, AT0 + 3_000, 3, quality="unknown", later_s=None),
            ],
            boot=2,
            next=3,
            proof=T0 + 1,
            bad=1,
        ),
        case(
            "a wiped record that was no reading",
            [gone, Sector(), Sector()],
            "lbb",
            [
                got(0, AT0 + 1_000, 1),
                got(1, AT0 + 2_000, 2, quality="unknown", later_s=None),
            ],
            boot=2,
            next=2,
            proof=T0 + 1,
        ),
        case(
            "more than half of a sector wiped",
            [wiped, Sector(), Sector()],
            "lbb",
            [*map(of, range(9)), damaged(9, 168), *map(of, range(169, 240))],
            next=240,
            proof=T0 + 239,
        ),
        case(
            "a torn closing record",
            [torn_close, Sector().prepare(2), Sector()],
            "lpb",
            [of(0), of(1), of(2)],
            next=3,
            proof=T0 + 2,
        ),
        case(
            "a damaged closing record, and the newest wiped",
            [small(0).close(0).flip(4095), Sector(), Sector().prepare(2)],
            "lbp",
            [of(0), of(1), of(2), damaged(3, 258)],
            next=3 + 256,
            proof=T0 + 2,
        ),
        case(
            "a damaged channel table that another sector has too",
            tables,
            "lll",
            [*map(of, range(6))],
            next=6,
            proof=T0 + 5,
        ),
        case(
            "a damaged channel table that no other sector has",
            [alone, Sector(), Sector()],
            "lbb",
            [damaged(0, 1)],
            next=2,
            proof=T0 + 1,
            bad=2,
        ),
        case(
            "an opening torn in its header",
            [small(0).close(0), unopened, Sector()],
            "lbb",
            [of(0), of(1), of(2)],
            next=3,
            proof=T0 + 2,
        ),
        case(
            "an opening torn in its table",
            [small(0).close(0), tableless, Sector()],
            "llb",
            [of(0), of(1), of(2)],
            next=3,
            proof=T0 + 2,
        ),
        case(
            "sectors of zeros and of noise",
            [Sector().fill(bytes(SECTOR)), small(0), Sector().fill(bytes(range(256)) * 16)],
            "dld",
            [of(0), of(1), of(2)],
            next=3,
            proof=T0 + 2,
        ),
    ]


def document() -> str:
    vectors = ",\n".join(json.dumps(each) for each in cases())
    about = (
        "Made by make_spool.py. sectors: for each, what is not 0xFF as [offset, hex]. items: readings as "
        "[seq, name, unit, decimals, reason, value, unix_ms, quality, later_s], gaps as [first, last, why]."
    )
    return f'{{"about": {json.dumps(about)}, "vectors": [\n{vectors}\n]}}\n'


if __name__ == "__main__":
    TARGET.write_text(document())
