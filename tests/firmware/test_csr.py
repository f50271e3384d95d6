"""Keys and requests in DER; whether others read them, tests/host/test_enrol.py asks."""

from limpet import csr, p256

D = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
Q = (
    0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
    0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
)
KEY = bytes.fromhex(
    "30770201010420c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"
    "a00a06082a8648ce3d030107a14403420004"
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
)


def refused(call, *args):
    try:
        call(*args)
    except ValueError as error:
        return str(error)
    return None


def test_private_key():
    assert csr.private_key(D, Q) == KEY
    assert csr.read_private_key(KEY) == (D, Q)
    assert csr.read_private_key(csr.private_key(1, (0, 2))) == (1, (0, 2))


def test_another_private_key_is_refused():
    for wrong in (b"", KEY[:-1], KEY + b"\x00", b"\x31" + KEY[1:], KEY[:50] + b"\x08" + KEY[51:]):
        assert refused(csr.read_private_key, wrong) == "not a private key on P-256", wrong


def test_public_point():
    assert csr.public_point(KEY) == KEY[-68:]
    assert csr.public_point(b"a PKCS#8 head" + KEY[-70:]) == KEY[-68:]
    assert csr.public_point(csr.private_key(0x03420004 << 200, Q)) == KEY[-68:]
    for wrong in (b"", KEY[:-1], KEY + b"\x00", KEY[:39]):
        assert refused(csr.public_point, wrong) == "no public key on P-256", wrong


def test_integers_are_the_shortest():
    for value, der in (
        (1, "020101"),
        (0x7F, "02017f"),
        (0x80, "02020080"),
        (0xFF, "020200ff"),
        (0x100, "02020100"),
        (0x7FFF, "02027fff"),
        (0x8000, "0203008000"),
        ((1 << 255) - 1, "02207f" + 31 * "ff"),
        (1 << 255, "02210080" + 31 * "00"),
    ):
        assert csr._integer(value).hex() == der, der


def test_lengths():
    for length, head in ((0, "3000"), (127, "307f"), (128, "308180"), (255, "3081ff")):
        assert csr._tlv(0x30, bytes(length)).hex() == head + length * "00"


def test_request_has_the_name_the_key_and_a_signature():
    for node_id in ("n", "n01", "A" * 32):
        made = p256.run(csr.request(node_id, KEY))
        name = bytes([0x0C, len(node_id)]) + node_id.encode()
        assert b"\x06\x03\x55\x04\x03" + name in made
        assert csr.public_point(KEY) in made
        head = made[:3]
        assert head == bytes([0x30, 0x81, len(made) - 3])
        assert KEY[7:39] not in made


def test_request_for_another_kind_of_key():
    assert refused(p256.run, csr.request("n01", b"key-bytes")) == "not a private key on P-256"
