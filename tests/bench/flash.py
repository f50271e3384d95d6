"""What the spool does to its flash, beside a log file on littlefs."""

from tests.bench.ground import Ground
from tests.bench.table import Row, number

SIZE = 512 * 1024
RECORD = 16
READINGS = 40_000  # more than the spool holds: it goes round
_LITTLEFS = 3_000  # records; more of them only cost time
_MB = 1e6
_NOTE = (
    f"Policy `each`, {number(READINGS)} readings through a spool of 512 KiB, in steady state, with "
    f"acknowledgements; an encoded reading is its record of {RECORD} bytes as it stands on flash. Headers, "
    "channel tables and records of acknowledgement are counted too. littlefs is mounted as the ESP32 port "
    "does it; the file is appended to and flushed after each record."
)
_RECOVERY = "`Spool(partition)`, full of readings that nobody has acknowledged, until it can be used."


def rows(ground: Ground) -> list[Row]:
    ours = ground.run("spool.py", SIZE, READINGS, heap="8m")
    theirs = ground.run("littlefs.py", SIZE, _LITTLEFS, heap="8m")
    per_byte = ours["programmed"] / (READINGS * RECORD)
    per_byte_theirs = theirs["programmed"] / (_LITTLEFS * RECORD)
    per_mb = ours["erased"] / (READINGS * RECORD / _MB)
    per_mb_theirs = theirs["erased"] / (_LITTLEFS * RECORD / _MB)
    share = ours["recovered"] / SIZE
    return [
        Row(
            "bytes programmed for each byte of encoded reading",
            per_byte,
            f"({per_byte * RECORD:.1f} B a reading)",
            f"littlefs file: {number(per_byte_theirs)}",
            per_byte / per_byte_theirs,
            "at most 1.25",
            per_byte <= 1.25,
            _NOTE,
        ),
        Row(
            "erases for each MB of encoded readings",
            per_mb,
            "",
            f"littlefs file: {number(per_mb_theirs)}",
            per_mb / per_mb_theirs,
            note=_NOTE,
        ),
        Row(
            "recovery of a full spool of 512 KiB: share of it that is read",
            share * 100,
            "%",
            f"{number(ours['recovered'])} B, {number(ours['held'])} readings held",
            None,
            "at most 3 %",
            share <= 0.03,
            _RECOVERY,
        ),
    ]
