"""The node reads the spools that the host reads too: tests/vectors/spool.json, by docs/formats.md."""

import json

from limpet.reader import END, GAP, READING
from limpet.spool import Spool

_HERE = __file__.rsplit("/", 1)[0]
with open(_HERE + "/../vectors/spool.json") as file:
    CASES = json.load(file)["vectors"]

SECTOR = 4096
QUALITIES = ("synced", "holdover", "recovered", "unknown")


class Flash:
    """The partition of a case, read as an `esp32.Partition`; whoever looks must not write."""

    def __init__(self, case):
        self.count = len(case["sectors"])
        self.data = bytearray(b"\xff" * (SECTOR * self.count))
        for i, runs in enumerate(case["sectors"]):
            for at, text in runs:
                for j in range(0, len(text), 2):
                    self.data[i * SECTOR + at + j // 2] = int(text[j : j + 2], 16)

    def readblocks(self, block, buf, offset=0):
        at = block * SECTOR + offset
        buf[:] = self.data[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=0):
        raise AssertionError("written to")

    def ioctl(self, op, arg):
        assert op in (4, 5), "erased"
        return self.count if op == 4 else SECTOR


def items(spool):
    """All that a reader tells, from the first number that is known of; gaps that touch are one."""
    reader = spool.reader()
    reader.seek(min(spool.cursor, spool.first))
    found = []
    while True:
        what = reader.look()
        assert reader.look() == what, "looking changes nothing"
        if what == END:
            return found
        if what == GAP:
            gap = [reader.seq, reader.last, reader.why]
            if found and len(found[-1]) == 3 and found[-1][1:] == [gap[0] - 1, gap[2]]:
                gap[0] = found.pop()[0]
            found.append(gap)
        else:
            assert what == READING, what
            found.append(
                [reader.seq]
                + list(reader.channel)
                + [reader.reason, reader.value, reader.unix_ms, QUALITIES[reader.quality], reader.later_s]
            )
        reader.skip()


def differences(case):
    """What the node finds otherwise than the vector says."""
    spool = Spool(Flash(case), case["node"])
    found = {key: getattr(spool, key) for key in ("boot", "cursor", "first", "next", "proof") if key in case}
    if case["epoch"]:
        found["epoch"] = spool.epoch
    found["items"] = items(spool)
    found["damaged"] = spool.damaged
    return [
        "%s: %s: %r, not %r" % (case["name"], key, found[key], case[key])
        for key in found
        if found[key] != case[key]
    ]


def test_vectors():
    wrong = []
    for case in CASES:
        wrong += differences(case)
    assert not wrong, "\n".join(wrong)


def test_an_epoch_of_its_own_where_there_is_none():
    for case in CASES:
        if not case["epoch"]:
            epochs = {Spool(Flash(case), case["node"]).epoch for _ in range(3)}
            assert len(epochs) == 3 and all(len(epoch) == 8 for epoch in epochs), case["name"]


def test_what_is_wrong_with_a_partition_is_told():
    for case in CASES:
        fault = Spool(Flash(case), case["node"]).fault
        assert bool(fault) == (case["name"] in FAULTS), "%s: %s" % (case["name"], fault)


FAULTS = (
    "another node's alone",
    "both headers of the newest damaged: no number comes again",
    "the newest wiped: no number comes again",
    "a damaged closing record, and the newest wiped",
    "behind the newest another node's sector, where ours may have been",
)
