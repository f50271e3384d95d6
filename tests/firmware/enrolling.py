"""An identity partition and a radio for the tests of limpet.enrol, and an authority's part in it."""

import binascii
import json
import sys

from _flash import SECTOR
from flash import Nor
from limpet import csr, p256

_HERE = __file__.rsplit("/", 1)[0]
with open(_HERE + "/../vectors/enrol.json") as file:
    VECTORS = json.load(file)

NODE_ID = VECTORS["node_id"]
FINGERPRINTS = VECTORS["fingerprints"]
SLOT = 2 * SECTOR
PIECE = 200  # bytes in one put


class Flash(Nor):
    """The identity partition. As on the chip, one read or write may go on beyond a sector."""

    def __init__(self, data=None):
        super().__init__(4, data)

    def _at(self, block, offset, length):
        at = block * SECTOR + offset
        assert at >= 0 and at + length <= len(self.data)
        return at

    def copy(self):
        return Flash(self.data)


class Radio:
    """network.WLAN. It is on, so that nobody need wait for it."""

    IF_STA = 0
    is_on = True

    def __init__(self, interface):
        assert interface == 0

    def active(self, on=None):
        if on is not None:
            Radio.is_on = on
        return Radio.is_on


class Partition:
    """esp32.Partition: there is the partition `flash` alone."""

    TYPE_DATA = 1
    flash = None

    @classmethod
    def find(cls, kind, label):
        assert (kind, label) == (cls.TYPE_DATA, "identity")
        return [cls.flash] if cls.flash else []


class _Module:
    pass


for _name, _member in (("esp32", Partition), ("network", Radio)):
    _module = _Module()
    setattr(_module, {"esp32": "Partition", "network": "WLAN"}[_name], _member)
    sys.modules[_name] = _module


def use(flash):
    """Let `flash` be the board's."""
    Partition.flash = flash
    return flash


def private(name):
    """(private key, public point) of a key of the vectors."""
    d = int(VECTORS["keys"][name], 16)
    if name not in _points:
        _points[name] = p256.run(p256.multiply(d, p256.G))
    return d, _points[name]


_points = {}


def key(name):
    """The same as DER."""
    return csr.private_key(*private(name))


class Drawn:
    """Within the `with` block that key is drawn, and nothing computed: this is tested elsewhere.

    `radio` has whether the radio was on, once for each key.
    """

    def __init__(self, name):
        self._pair = private(name)
        self.radio = []

    def __enter__(self):
        self._kept = p256.key_pair, p256.sign
        p256.key_pair, p256.sign = self._key_pair, self._sign
        return self

    def __exit__(self, *_):
        p256.key_pair, p256.sign = self._kept

    def _key_pair(self):
        self.radio.append(Radio.is_on)
        yield 0
        return self._pair

    def _sign(self, d, q, digest):
        yield 0
        return 1, 1


def fields(name):
    """What the authority gives for a key."""
    return bytes.fromhex(VECTORS["put"][name])


def endorsed(name):
    """The same with an endorsement behind it."""
    return bytes.fromhex(VECTORS["endorsed"][name])


def pieces(name):
    data = fields(name)
    return [(at, data[at : at + PIECE]) for at in range(0, len(data), PIECE)]


def receipt(name):
    """Length and CRC of what is put."""
    return len(fields(name)), binascii.crc32(fields(name))
