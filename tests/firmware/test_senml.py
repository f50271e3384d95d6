import json

from limpet.senml import Pack, fixed


def _vectors():
    with open("tests/vectors/senml.json") as f:
        return json.load(f)["vectors"]


def _encode(vector, size=4096):
    buf = bytearray(size)
    pack = Pack(buf, 7, vector["node"], vector["epoch"], vector["seq"], vector["base_unix_ms"])
    added = 0
    for r in vector["readings"]:
        if not pack.add(r["unix_ms"], r["channel"], r["unit"], r["decimals"], r["reason"], r["value"]):
            break
        added += 1
    return bytes(buf[7 : pack.close()]).decode(), added


def test_vectors():
    vectors = _vectors()
    assert len(vectors) >= 8
    for vector in vectors:
        text, _ = _encode(vector)
        assert text == vector["text"], (vector["name"], text)


def test_a_full_buffer_ends_the_pack_between_two_readings():
    vector = max(_vectors(), key=lambda v: len(v["readings"]))
    whole, count = _encode(vector)
    assert count > 1
    seen = set()
    for size in range(len(whole) // count + 60, len(whole) + 8):
        text, added = _encode(vector, size)
        assert len(text) <= size - 7
        if added:
            assert len(json.loads(text)) == added
        seen.add(added)
    assert max(seen) == count, seen
    assert len(seen) > 1


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
