"""Partition tables against the shared vectors. The first good ones were compared with ESP-IDF's own tool."""

import json
from pathlib import Path

import pytest

from host_tools import partitions
from host_tools.boards import load_board
from host_tools.partitions import Partition, PartitionTableError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "partitions.json").read_text())


def table_bytes(vector: dict) -> bytes:
    table = bytes.fromhex("".join(vector["table"])).ljust(partitions.TABLE_SIZE, b"\xff")
    return table[: vector.get("length")]


def by_name(vectors: list[dict]) -> list:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


@pytest.mark.parametrize("vector", by_name(VECTORS["good"]))
def test_good_table(vector):
    expected = [Partition(**each) for each in vector["partitions"]]
    assert partitions.encode(expected) == table_bytes(vector)
    assert list(partitions.decode(table_bytes(vector))) == expected


@pytest.mark.parametrize("vector", by_name(VECTORS["bad"]))
def test_bad_table(vector):
    with pytest.raises(PartitionTableError, match=vector["fault"]) as caught:
        partitions.decode(table_bytes(vector))
    assert "\n" not in str(caught.value)


def test_the_virtual_board_has_the_table_of_the_vectors():
    expected = [Partition(**each) for each in VECTORS["good"][0]["partitions"]]
    assert list(load_board("virtual").partition_table()) == expected


def test_what_follows_the_table_in_its_sector_does_not_matter():
    table = table_bytes(VECTORS["good"][0])
    assert partitions.decode(table + b"signature") == partitions.decode(table)


def test_every_cleared_bit_is_noticed():
    """A flash's damage is a bit that lost its charge or was programmed: any single one is found."""
    table = table_bytes(VECTORS["good"][0])
    used = 32 * len(VECTORS["good"][0]["table"])
    for bit in range(used * 8):
        damaged = bytearray(table)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PartitionTableError):
            partitions.decode(bytes(damaged))


def test_find():
    table = load_board("virtual").partition_table()
    assert partitions.find(table, "identity") == Partition("identity", 1, 0x40, 0x200000, 0x4000)
    with pytest.raises(PartitionTableError) as caught:
        partitions.find(table, "storage")
    assert str(caught.value) == (
        "There is no partition 'storage' in the table: it has nvs, phy_init, factory, identity, spool, vfs. "
        "Flash an image made for this board."
    )
    with pytest.raises(PartitionTableError, match="it has none"):
        partitions.find([], "vfs")


def test_as_many_as_fit():
    many = [Partition(f"p{n}", 1, 0x40, 0x9000 + n * 0x1000, 0x1000) for n in range(95)]
    assert list(partitions.decode(partitions.encode(many[:94]))) == many[:94]
    with pytest.raises(PartitionTableError, match="at most 94 partitions, not 95"):
        partitions.encode(many)


@pytest.mark.parametrize(
    ("partition", "fault"),
    [
        (Partition("", 1, 2, 0x9000, 0x1000), "1 to 15 bytes, unlike ''"),
        (Partition("sixteen_letters_", 1, 2, 0x9000, 0x1000), "1 to 15 bytes, unlike 'sixteen_letters_'"),
        (Partition("nvs", 256, 2, 0x9000, 0x1000), "A number of partition 'nvs' does not fit"),
        (Partition("nvs", 1, 2, -1, 0x1000), "A number of partition 'nvs' does not fit"),
    ],
)
def test_what_an_entry_cannot_hold(partition, fault):
    with pytest.raises(PartitionTableError, match=fault):
        partitions.encode([partition])


def test_a_name_that_is_not_text():
    table = bytearray(table_bytes(VECTORS["good"][0]))
    table[12] = 0xFE
    with pytest.raises(
        PartitionTableError, match="Entry 0 of the partition table has a name that is not text"
    ):
        partitions.decode(bytes(table))
