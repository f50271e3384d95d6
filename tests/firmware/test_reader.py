import json

from flash import SECTOR, Nor
from limpet.reader import Reader
from limpet.spool import Spool

QUALITIES = ("synced", "holdover", "recovered", "unknown")


def image(vector):
    nor = Nor(len(vector["sectors"]))
    for place, runs in enumerate(vector["sectors"]):
        for offset, text in runs:
            at = place * SECTOR + offset
            nor.data[at : at + len(text) // 2] = bytes.fromhex(text)
    return nor


def items(spool, start):
    reader = spool.reader()
    reader.seek(start)
    found = []
    while True:
        what = reader.look()
        if what == 1:
            time = [reader.unix_ms, QUALITIES[reader.quality], reader.later_s]
            found.append([reader.seq] + list(reader.channel) + [reader.reason, reader.value] + time)
        elif what == 2:
            found.append([reader.seq, reader.last, reader.why])
        else:
            assert what == 0
            return found
        reader.skip()


def test_reads_the_vectors():
    with open("tests/vectors/spool.json") as f:
        vectors = json.load(f)["vectors"]
    for vector in vectors:
        spool = Spool(image(vector), vector["node"])
        for key in ("boot", "cursor", "first", "next", "proof"):
            assert getattr(spool, key) == vector[key], (vector["name"], key, getattr(spool, key), vector[key])
        if vector["epoch"]:
            assert spool.epoch == vector["epoch"]
        found = items(spool, min(spool.cursor, spool.first))
        assert found == vector["items"], (vector["name"], found, vector["items"])
        assert spool.damaged == vector["damaged"], (vector["name"], spool.damaged)
