import gc
import json

from limpet.senml import Pack, fixed, seconds

AT = 7  # where packs begin in their buffer: something stands before them
NODE = "n01"
EPOCH = "1a2b3c4d"
QUALITIES = ("synced", "holdover", "recovered", "unknown")
T0 = 1763820000250


def _vectors():
    with open("tests/vectors/senml.json") as f:
        return json.load(f)["vectors"]


def _add(pack, r):
    return pack.add(
        r["seq"],
        r["unix_ms"],
        r["channel"],
        r["unit"],
        r["decimals"],
        r["reason"],
        r["value"],
        QUALITIES.index(r.get("quality", "synced")),
        r.get("later_s", 0),
    )


def _text(pack, buf):
    return bytes(buf[AT : pack.close()]).decode()


def _encode(vector, limit=4096, pack=None):
    buf = bytearray(4096)
    pack = pack or Pack(limit)
    pack.begin(buf, AT, vector["node"], vector["epoch"])
    for r in vector["readings"]:
        if not _add(pack, r):
            break
    return _text(pack, buf), pack.count


def test_vectors():
    vectors = _vectors()
    assert len(vectors) >= 8
    for vector in vectors:
        text, count = _encode(vector)
        assert text == vector["text"], (vector["name"], text)
        assert count == len(vector["readings"])


def test_a_pack_object_keeps_nothing_of_the_pack_before():
    pack = Pack(4096)
    for vector in _vectors() * 2:
        text, count = _encode(vector, pack=pack)
        assert text == vector["text"], (vector["name"], text)
        assert count == len(vector["readings"])


def test_a_full_pack_ends_between_two_readings():
    for vector in _vectors():
        whole = len(vector["text"])
        prefixes = {}
        for count in range(1, len(vector["readings"]) + 1):
            part = dict(vector)
            part["readings"] = vector["readings"][:count]
            prefixes[count] = _encode(part)[0]
        for limit in range(len(prefixes[1]), whole + 2):
            text, count = _encode(vector, limit)
            assert len(text) <= limit
            assert text == prefixes[count], (vector["name"], limit)
            if count < len(vector["readings"]):
                assert len(prefixes[count + 1]) > limit
        assert _encode(vector, len(prefixes[1]) - 1)[1] == 0


def test_the_end_of_the_buffer_is_a_limit_too():
    vector = _vectors()[1]
    for size in (len(vector["text"]) - 1, len(vector["text"])):
        buf = bytearray(AT + size)
        pack = Pack(4096)
        pack.begin(buf, AT, vector["node"], vector["epoch"])
        fits = [_add(pack, r) for r in vector["readings"]]
        text = _text(pack, buf)
        assert len(buf) == AT + size
        assert bytes(buf[:AT]) == bytes(AT)
        assert fits[0] and fits[-1] == (size == len(vector["text"])) == (text == vector["text"]), (size, text)


def test_a_refused_reading_changes_nothing():
    vector = _vectors()[1]
    part = dict(vector)
    part["readings"] = vector["readings"][:3]
    fits = _encode(part)[0]
    pack = Pack(len(fits))
    buf = bytearray(b"\xff" * 4096)
    pack.begin(buf, AT, vector["node"], vector["epoch"])
    for r in part["readings"]:
        assert _add(pack, r)
    for _ in range(3):
        for r in vector["readings"][3:]:
            assert not _add(pack, r)
    assert pack.count == 3
    assert _text(pack, buf) == fits
    assert all(each == 0xFF for each in buf[AT + len(fits) :])


def _wind(i, unit="m/s"):
    return "wind%d/speed" % i, unit, 2, 0, i


def test_32_channels_in_turn_and_no_33rd():
    pack = Pack(16000)
    buf = bytearray(16000)
    for _ in range(2):
        pack.begin(buf, AT, NODE, EPOCH)
        seq = 0
        for turn in range(5):
            for i in range(32):
                assert pack.add(seq, T0 + 1000 * turn, *_wind(i)), (turn, i)
                seq += 1
            assert not pack.add(seq, T0, *_wind(32))
            assert not pack.add(seq, T0, *_wind(0, "km/h"))
        records = json.loads(_text(pack, buf))
        assert pack.count == len(records) == 160
        for i in range(32):
            head, *rest = records[5 * i : 5 * i + 5]
            assert (head["bn"], head["seq"]) == ("n01/wind%d/speed" % i, i)
            assert ("bu" in head) == (not i)
            assert [r.get("step") for r in rest] == [32, None, None, None]
            assert [r["t"] for r in rest] == [1, 2, 3, 4]


def test_what_stands_behind_a_group_moves_whole():
    # Old versions of MicroPython copied slices that overlap as memcpy() does.
    for size in (64, 1100, 5000):
        for by in (1, 2, 3, 7, 8, 16, 24, 33, 60):
            for start in (0, 1, 5, 24):
                buf = bytearray([(i * 7 + 3) & 255 for i in range(size)])
                end = size - by
                if end <= start:
                    continue
                expected = bytes(buf[start:end])
                view = memoryview(buf)
                view[start + by : end + by] = view[start:end]
                assert bytes(buf[start + by :]) == expected, (size, by, start)


def test_packs_leave_nothing_in_the_heap():
    pack = Pack(1024)
    buf = bytearray(1100)

    def fill():
        for turn in range(20):
            pack.begin(buf, AT, NODE, EPOCH)
            seq = turn * 1000
            while pack.add(seq, T0 + seq, *_wind(seq % 9)):
                seq += 1
            pack.close()

    fill()
    gc.collect()
    before = gc.mem_alloc()
    fill()
    gc.collect()
    assert gc.mem_alloc() <= before, gc.mem_alloc() - before


def test_a_record_takes_little_of_the_heap():
    pack = Pack(1024)
    buf = bytearray(1100)
    pack.begin(buf, AT, NODE, EPOCH)
    for seq in range(9):
        pack.add(seq, T0, *_wind(seq % 3))
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for seq in range(9, 24):
        assert pack.add(seq, T0 + seq * 333, *_wind(seq % 3))
    used = gc.mem_alloc() - before
    gc.enable()
    assert used <= 15 * 640, used  # half of that on a 32-bit board


def test_fixed_point_is_exact():
    for value, decimals, text in (
        (0, 0, "0"),
        (0, 2, "0.00"),
        (-1, 2, "-0.01"),
        (-100, 2, "-1.00"),
        (10065327, 2, "100653.27"),
        (-2147483648, 4, "-214748.3648"),
        (5, 4, "0.0005"),
    ):
        assert fixed(value, decimals) == text, (value, decimals, fixed(value, decimals))


def test_seconds_have_no_needless_decimals():
    for ms, text in (
        (0, "0"),
        (1, "0.001"),
        (10, "0.01"),
        (100, "0.1"),
        (1000, "1"),
        (10000, "10"),
        (1010, "1.01"),
        (-1, "-0.001"),
        (-250, "-0.25"),
        (-1000, "-1"),
        (-2001, "-2.001"),
        (1763820000250, "1763820000.25"),
        (1763820000000, "1763820000"),
    ):
        assert seconds(ms) == text, (ms, seconds(ms))
