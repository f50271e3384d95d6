"""Whatever comes over the line, the chip neither breaks nor grows, and still answers a SYNC afterwards."""

import asyncio
import random
import struct
import tracemalloc
import zlib

import pytest

from host_tools.virtual.rom import slip
from host_tools.virtual.rom.engine import CHIPS
from host_tools.virtual.rom.packets import COMMANDS
from tests.host.rom_packets import SYNC, Line, block, frame, words
from tests.host.rom_server import MIB

ROUNDS = 3000
WORDS = {
    COMMANDS[name]: count
    for name, count in (
        ("FLASH_BEGIN", 4),
        ("FLASH_DEFL_BEGIN", 4),
        ("MEM_BEGIN", 4),
        ("MEM_END", 2),
        ("READ_REG", 1),
        ("WRITE_REG", 4),
        ("SPI_SET_PARAMS", 6),
        ("SPI_ATTACH", 1),
        ("CHANGE_BAUDRATE", 2),
        ("SPI_FLASH_MD5", 4),
        ("READ_FLASH_SLOW", 2),
        ("READ_FLASH", 4),
        ("ERASE_REGION", 2),
    )
}
ODD = (0, 1, 3, 4, 64, 0xFFF, 0x1000, 0x10000, 4 * MIB - 4, 4 * MIB, 0x7FFFFFFF, 0xFFFFF000, 0xFFFFFFFF)


def request(dice: random.Random) -> bytes:
    """A frame: a good one, one with odd numbers in it, or one that is damaged."""
    command = dice.choice(list(COMMANDS.values())) if dice.random() < 0.95 else dice.randrange(256)
    if command in (COMMANDS["RUN_USER_CODE"], COMMANDS["FLASH_END"], COMMANDS["FLASH_DEFL_END"]):
        command = COMMANDS["SYNC"]  # those end the conversation
    form = dice.randrange(6)
    if form == 0:
        made = frame(command, dice.randbytes(dice.choice((0, 1, 4, 8, 16, 20, 36, 500))))
    elif form == 1:
        data = dice.randbytes(dice.choice((0, 4, 100, 1024, 5000)))
        name = dice.choice(("FLASH_DATA", "FLASH_DEFL_DATA", "MEM_DATA"))
        made = block(name, dice.randrange(3), data)
    elif form == 2:
        made = block("FLASH_DEFL_DATA", 0, b"\x78\x9c" + dice.randbytes(2000))
    else:
        count = WORDS.get(command, 0) if dice.random() < 0.8 else dice.choice((0, 1, 2, 4, 5, 6))
        made = frame(command, words(*(dice.choice(ODD) for _ in range(count))))
    if dice.random() < 0.2:
        damaged = bytearray(made)
        for _ in range(dice.randint(1, 5)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        made = bytes(damaged)
    return made


def noise(dice: random.Random) -> bytes:
    """What a bad cable makes of it."""
    data = slip.encode(request(dice))
    form = dice.randrange(10)
    if form == 0:
        data = data[: dice.randrange(len(data))]
    elif form == 1:
        data = dice.randbytes(dice.randrange(300))
    elif form == 2:
        data = b"\xc0" + b"A" * dice.choice((100, 20_000, 200_000))
    elif form == 3:
        at = dice.randrange(len(data))
        data = data[:at] + dice.choice((b"\xc0", b"\xdb", b"\xdb\x00", b"\xc0\xc0\xc0")) + data[at:]
    return data


def in_pieces(dice: random.Random, data: bytes):
    while data:
        n = dice.randint(1, len(data))
        yield data[:n]
        data = data[n:]


@pytest.mark.parametrize("with_stub", [False, True], ids=["rom", "stub"])
@pytest.mark.parametrize("chip", CHIPS)
def test_anything_may_come(tmp_path, chip, with_stub):
    async def feed() -> None:
        dice = random.Random(f"{chip}{with_stub}")
        line = Line(tmp_path, chip)
        if with_stub:
            line.start_stub()
        for _ in range(ROUNDS):
            line.sent.clear()
            for piece in in_pieces(dice, noise(dice)):
                line.rom.receive(piece)
            # Frames all through, of bounded length.
            assert bytes(line.sent[:1]) in (b"", b"\xc0")
            assert len(line.sent) < 20_000
            if line.rom._loader is None:  # a program that says nothing was started, or a watchdog set
                line = Line(tmp_path, chip)
                if with_stub:
                    line.start_stub()
        line.rom.receive(b"\xc0\xc0")
        # After the frame that was open, a reading under way and a carried error, it answers.
        answers = [line.raw(frame("SYNC", SYNC)) for _ in range(4)]
        assert len(answers[-1]) == 8
        line.rom.stop()

    asyncio.run(feed())


@pytest.mark.parametrize("with_stub", [False, True], ids=["rom", "stub"])
def test_nothing_is_kept_of_what_has_no_place(tmp_path, with_stub):
    line = Line(tmp_path)
    if with_stub:
        line.start_stub()
    line.raw(frame("SYNC", SYNC))
    tracemalloc.start()
    try:
        for n in range(6000):
            line.rom.receive(slip.encode(frame("WRITE_REG", words(0x3FFB0000 + 4 * n, n, 0xFFFFFFFF, 0))))
            line.rom.receive(slip.encode(frame("MEM_BEGIN", words(0, 0, 0, 0x40080000 + n))))
            line.sent.clear()
        line.rom.receive(b"\xc0")
        for _ in range(100):
            line.rom.receive(b"A" * 100_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize("with_stub", [False, True], ids=["rom", "stub"])
def test_a_block_that_inflates_without_end_stops_at_the_end_of_the_flash(tmp_path, with_stub):
    line = Line(tmp_path)
    if with_stub:
        line.start_stub()
    bomb = zlib.compress(bytes(64 * MIB), 9)
    line.ask(frame("FLASH_DEFL_BEGIN", words(4096, 5, 0x4000, 4 * MIB - 0x2000)))
    tracemalloc.start()
    try:
        for number, at in enumerate(range(0, len(bomb), 0x4000)):
            line.ask(block("FLASH_DEFL_DATA", number, bomb[at : at + 0x4000]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB
    assert line.flash.read(0, 4 * MIB - 0x2000) == b"\xff" * (4 * MIB - 0x2000)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("RUN_USER_CODE",)])
@pytest.mark.parametrize("with_stub", [False, True], ids=["rom", "stub"])
def test_every_length_of_every_command(tmp_path, command, with_stub):
    line = Line(tmp_path)
    if with_stub:
        line.start_stub()
    for length in range(41):
        line.rom.receive(slip.encode(frame(command, bytes(length))))
        line.rom.receive(slip.encode(struct.pack("<BBHI", 0, COMMANDS[command], length, 0)))
        assert len(line.sent) < 20_000
        line.sent.clear()
