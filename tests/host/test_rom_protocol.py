"""What the ROM and the stub answer, byte by byte; and beside an independent ROM where that one is right."""

import asyncio
import hashlib
import random
import socket
import threading
import zlib

import pytest
from esp32_mock_bootloader.server import BootloaderConnection, FlashImage, handle_client
from esptool.targets import CHIP_DEFS

from host_tools.virtual.rom import slip
from host_tools.virtual.rom.efuses import Efuses
from host_tools.virtual.rom.engine import CHIPS, Rom
from host_tools.virtual.rom.packets import COMMANDS
from host_tools.virtual.rom.spi_flash import SpiCommands
from tests.host.rom_packets import SYNC, Line, block, frame, parse, words
from tests.host.rom_server import MAC, MIB

ROM_OK = bytes(4)
STUB_OK = bytes(2)
DATA = random.Random(7).randbytes(5000) + bytes(60_000)


def rom_error(code: int) -> bytes:
    return bytes((1, code, 0, 0))


@pytest.fixture
def line(tmp_path) -> Line:
    return Line(tmp_path)


@pytest.fixture
def stub(line: Line) -> Line:
    line.start_stub()
    return line


# SLIP


def test_slip_survives_every_byte_and_every_split():
    frames = [bytes(range(256)), b"\xdb\xdc\xdb\xdd\xc0\xc0\xdb", b"x", b"\xc0" * 9]
    stream = b"noise" + b"".join(map(slip.encode, frames)) + b"more"
    dice = random.Random(1)
    for _ in range(50):
        decoder = slip.Decoder(300)
        got: list[bytes] = []
        rest = stream
        while rest:
            n = dice.randint(1, 40)
            got += decoder.feed(rest[:n])
            rest = rest[n:]
        assert got == frames


@pytest.mark.parametrize("bad", [b"a\xdbb", b"\xdb\xdb\xdc", b"\xdb", b"y" * 301, b"\xdb\xdc" * 301])
def test_slip_drops_a_bad_frame_and_takes_the_next(bad):
    decoder = slip.Decoder(300)
    assert list(decoder.feed(b"\xc0" + bad + b"\xc0" + slip.encode(b"good"))) == [b"good"]


def test_slip_a_stray_delimiter_costs_at_most_the_next_frame():
    decoder = slip.Decoder(300)
    got = list(
        decoder.feed(b"junk\xc0junk" + slip.encode(b"one") + slip.encode(b"two") + slip.encode(b"three"))
    )
    assert got[-1] == b"three"


# ROM


@pytest.mark.parametrize("chip", CHIPS)
def test_sync_is_answered_eight_times(tmp_path, chip):
    answers = Line(tmp_path, chip).raw(frame("SYNC", SYNC))
    assert answers == [bytes.fromhex("010804000712205500000000")] * 8


def test_a_register_is_in_the_value_and_stays_there(line):
    magic = CHIP_DEFS["esp32"].MAGIC_VALUE
    assert line.ask(frame("READ_REG", words(0x40001000))) == (COMMANDS["READ_REG"], magic, ROM_OK)
    assert line.ask(frame("SPI_ATTACH", words(0, 0))) == (COMMANDS["SPI_ATTACH"], magic, ROM_OK)


def test_the_mac_has_its_check(line):
    base = CHIP_DEFS["esp32"].EFUSE_RD_REG_BASE
    assert line.ask(frame("READ_REG", words(base + 4))).value == int.from_bytes(MAC[2:], "big")
    upper = line.ask(frame("READ_REG", words(base + 8))).value
    assert upper & 0xFFFF == int.from_bytes(MAC[:2], "big")
    # Issue 570 of esptool shows a chip's: 24:6f:28:7a:d8:84 with 3e.
    other = Rom("esp32", bytes.fromhex("246f287ad884"), line.flash, line.sent.extend)
    other.receive(slip.encode(frame("READ_REG", words(base + 8))))
    assert parse(line.taken()[0]).value == 0x003E246F


def test_registers_are_written_by_mask_and_several_at_once(line):
    line.ask(frame("WRITE_REG", words(0x3FFB0000, 0x12345678, 0xFFFFFFFF, 0)))
    line.ask(frame("WRITE_REG", words(0x3FFB0000, 0xFFFFFFFF, 0x0000FF00, 0, 0x3FFB0004, 7, 0xFFFFFFFF, 0)))
    assert line.ask(frame("READ_REG", words(0x3FFB0000))).value == 0x1234FF78
    assert line.ask(frame("READ_REG", words(0x3FFB0004))).value == 7


def test_efuses_cannot_be_written(line):
    base = CHIP_DEFS["esp32"].EFUSE_RD_REG_BASE
    line.ask(frame("WRITE_REG", words(base + 4, 0, 0xFFFFFFFF, 0)))
    assert line.ask(frame("READ_REG", words(base + 4))).value == int.from_bytes(MAC[2:], "big")


def test_an_unknown_command_gets_a_foreign_answer_eight_times(line):
    for command in (frame("GET_SECURITY_INFO"), frame("ERASE_FLASH"), frame(0x77)):
        answers = [parse(answer) for answer in line.raw(command)]
        assert len(answers) == 8
        assert {(answer.command, answer.body) for answer in answers} == {(0, rom_error(5))}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (frame("SYNC", b"short"), 5),
        (frame("READ_REG", b"abc"), 5),
        (frame("WRITE_REG", words(1, 2, 3)), 5),
        (frame("SPI_ATTACH", words(0)), 5),
        (frame("SPI_SET_PARAMS", words(0)), 5),
        (frame("CHANGE_BAUDRATE", words(0, 0)), 5),
        (frame("FLASH_BEGIN", words(0, 0, 0, 0, 0)), 5),  # the ESP32 does not know the fifth word
        (frame("FLASH_BEGIN", words(8192, 8, 1024, 4 * MIB - 4096)), 6),
        (frame("FLASH_DEFL_BEGIN", words(4096, 1, 1024, 0xFFFFF000)), 6),
        (block("FLASH_DATA", 0, b"data"), 6),
        (block("FLASH_DEFL_DATA", 0, b"data"), 6),
        (frame("FLASH_END"), 5),
        (frame("MEM_BEGIN", words(16 * MIB, 1, 1024, 0x40080000)), 5),
        (block("MEM_DATA", 0, b"data"), 5),
        (frame("SPI_FLASH_MD5", words(4 * MIB - 1, 2, 0, 0)), 9),
        (frame("SPI_FLASH_MD5", words(0, 0xFFFFFFFF, 0, 0)), 9),
        (frame("READ_FLASH_SLOW", words(0, 65)), 10),
        (frame("READ_FLASH_SLOW", words(4 * MIB, 4)), 9),
        (frame("READ_REG", words(0))[:-1], 5),  # the header says more than there is
    ],
)
def test_what_the_rom_refuses(line, request_, error):
    answers = [parse(answer) for answer in line.raw(request_)]
    assert {answer.body for answer in answers} == {rom_error(error)}
    assert answers[0].command == request_[1]
    assert line.flash.path.read_bytes() == b"\xff" * 4 * MIB


def test_the_rom_writes_plain_blocks(line):
    assert line.ask(frame("FLASH_BEGIN", words(2000, 2, 1024, 0x1000))).body == ROM_OK
    assert line.ask(block("FLASH_DATA", 0, DATA[:1024])).body == ROM_OK
    assert line.ask(block("FLASH_DATA", 1, DATA[1024:2000] + b"\xff" * 48)).body == ROM_OK
    assert line.flash.read(0xFFC, 2008) == b"\xff" * 4 + DATA[:2000] + b"\xff" * 4
    digest = line.ask(frame("SPI_FLASH_MD5", words(0x1000, 2000, 0, 0))).body
    assert digest == hashlib.md5(DATA[:2000]).hexdigest().encode() + ROM_OK
    assert line.ask(frame("READ_FLASH_SLOW", words(0x1000, 5))).body == DATA[:5] + bytes(59) + ROM_OK


def test_the_rom_checks_what_a_block_says(line):
    line.ask(frame("FLASH_BEGIN", words(2048, 2, 1024, 0)))
    assert line.ask(block("FLASH_DATA", 0, b"data", 0x12)).body == rom_error(7)
    assert line.ask(block("FLASH_DATA", 1, b"data")).body == rom_error(5)
    assert line.ask(frame("FLASH_DATA", words(5, 0, 0, 0) + b"data")).body == rom_error(5)
    assert line.ask(block("FLASH_DEFL_DATA", 0, b"data")).body == rom_error(6)
    assert line.flash.programmed == 0
    # And takes it when it comes right.
    assert line.ask(block("FLASH_DATA", 0, b"data")).body == ROM_OK
    assert line.ask(block("FLASH_DATA", 1, b"more")).body == ROM_OK
    assert line.ask(block("FLASH_DATA", 2, b"much")).body == rom_error(5)
    assert line.flash.read(0, 12) == b"datamore\xff\xff\xff\xff"


def test_the_rom_writes_no_more_than_it_was_told(line):
    line.ask(frame("FLASH_BEGIN", words(8, 1, 1024, 0)))
    assert line.ask(block("FLASH_DATA", 0, b"data, padded with zeros" + bytes(9))).body == ROM_OK
    assert line.flash.read(0, 12) == b"data, pa\xff\xff\xff\xff"


def test_the_rom_does_not_talk_to_itself(line):
    assert line.raw(frame("READ_REG", words(0)).replace(b"\0", b"\1", 1)) == []


def test_a_size_is_believed_up_to_what_24_bits_address(line):
    line.ask(frame("SPI_SET_PARAMS", words(0, 0xFFFFFFFF, 65536, 4096, 256, 0xFFFF)))
    assert line.ask(frame("SPI_FLASH_MD5", words(16 * MIB - 4, 8, 0, 0))).body == rom_error(9)
    assert len(line.ask(frame("SPI_FLASH_MD5", words(16 * MIB - 4, 4, 0, 0))).body) == 36


def test_the_rom_inflates(line):
    packed = zlib.compress(DATA)
    pieces = [packed[at : at + 997] for at in range(0, len(packed), 997)]
    line.ask(frame("FLASH_DEFL_BEGIN", words(66 * 1024, len(pieces), 997, 0x2000)))
    for number, piece in enumerate(pieces):
        assert line.ask(block("FLASH_DEFL_DATA", number, piece)).body == ROM_OK
    assert line.flash.read(0x2000, len(DATA) + 8) == DATA + b"\xff" * 8


def test_the_rom_notices_what_does_not_inflate(line):
    line.ask(frame("FLASH_DEFL_BEGIN", words(4096, 1, 1024, 0)))
    assert line.ask(block("FLASH_DEFL_DATA", 0, b"no zlib")).body == rom_error(11)


def test_the_rom_reads_back_what_it_wrote(line):
    line.flash.read_only = True
    line.ask(frame("FLASH_BEGIN", words(4096, 1, 1024, 0)))
    assert line.ask(block("FLASH_DATA", 0, b"data")).body == rom_error(8)


@pytest.mark.parametrize("chip", CHIPS[1:])
def test_newer_chips_tell_whether_to_encrypt_and_who_they_are(tmp_path, chip):
    line = Line(tmp_path, chip)
    assert line.ask(frame("FLASH_BEGIN", words(0, 0, 0, 0, 0))).body == ROM_OK
    assert line.ask(frame("FLASH_BEGIN", words(0, 0, 0, 0))).body == rom_error(5)
    assert line.ask(frame("FLASH_BEGIN", words(4096, 1, 1024, 0, 1))).body == rom_error(6)  # not modelled
    info = line.ask(frame("GET_SECURITY_INFO")).body
    assert info == bytes(12) + words(CHIP_DEFS[chip].IMAGE_CHIP_ID, 0) + ROM_OK


def test_the_baud_rate_changes_after_the_answer(line):
    rates = []
    line.rom._send_on = lambda data: rates.append(line.rom.baudrate)
    line.raw(frame("CHANGE_BAUDRATE", words(921600, 0)))
    assert rates == [115200]
    assert line.rom.baudrate == 921600


@pytest.mark.parametrize("reboot", [0, 1])
def test_flash_end_leaves_the_download_mode_after_its_answer(line, reboot):
    line.ask(frame("FLASH_BEGIN", words(0, 0, 0, 0)))
    assert line.ask(frame("FLASH_END", words(reboot))).body == ROM_OK
    assert line.runs == 1
    assert line.raw(frame("SYNC", SYNC)) == []


@pytest.mark.parametrize("missing", ["last block", "entry"])
def test_a_program_that_is_not_there_says_nothing(line, missing):
    line.ask(frame("MEM_BEGIN", words(8, 2, 4, 0x40080000)))
    line.ask(block("MEM_DATA", 0, b"code"))
    if missing != "last block":
        line.ask(block("MEM_DATA", 1, b"code"))
    entry = 0x40090000 if missing == "entry" else 0x40080000
    assert line.ask(frame("MEM_END", words(0, entry))).body == ROM_OK
    assert line.raw(frame("SYNC", SYNC)) == []
    assert line.runs == 0


def test_ram_blocks_are_checked(line):
    line.ask(frame("MEM_BEGIN", words(8, 2, 4, 0x40080000)))
    assert line.ask(block("MEM_DATA", 0, b"code", 0)).body == rom_error(7)
    assert line.ask(block("MEM_DATA", 1, b"code")).body == rom_error(5)
    assert line.ask(block("MEM_DATA", 0, b"too much code")).body == rom_error(5)
    assert line.ask(frame("MEM_END", words(1, 0))).body == ROM_OK
    assert line.ask(block("MEM_DATA", 0, b"code")).body == ROM_OK
    # The blocks of another segment are counted anew.
    line.ask(frame("MEM_BEGIN", words(4, 1, 4, 0x3FFB0000)))
    assert line.ask(block("MEM_DATA", 0, b"data")).body == ROM_OK


def test_the_rom_takes_the_flash_for_4_mib_until_told(tmp_path):
    line = Line(tmp_path, size=8 * MIB)
    asked = frame("SPI_FLASH_MD5", words(4 * MIB, 4096, 0, 0))
    assert line.ask(asked).body == rom_error(9)
    line.ask(frame("SPI_SET_PARAMS", words(0, 8 * MIB, 65536, 4096, 256, 0xFFFF)))
    assert line.ask(asked).body == hashlib.md5(b"\xff" * 4096).hexdigest().encode() + ROM_OK


def test_a_size_beyond_the_chips_wraps_as_the_chip_does(tmp_path):
    line = Line(tmp_path, size=2 * MIB)
    line.ask(frame("SPI_SET_PARAMS", words(0, 4 * MIB, 65536, 4096, 256, 0xFFFF)))
    line.ask(frame("FLASH_BEGIN", words(4096, 1, 1024, 2 * MIB)))
    assert line.ask(block("FLASH_DATA", 0, b"data")).body == ROM_OK
    assert line.flash.read(0, 4) == b"data"


def test_secure_download_refuses_what_it_does_not_know(tmp_path):
    line = Line(tmp_path, "esp32c3", efuses=Efuses(secure_download=True))
    for command in (
        frame("READ_REG", words(0)),
        frame("MEM_BEGIN", words(4, 1, 4, 0x40380000)),
        frame("SPI_FLASH_MD5", words(0, 4096, 0, 0)),
        frame("READ_FLASH_SLOW", words(0, 64)),
    ):
        assert len(line.raw(command)) == 8
    assert line.ask(frame("FLASH_BEGIN", words(4096, 1, 1024, 0, 0))).body == ROM_OK
    assert line.ask(block("FLASH_DATA", 0, b"data")).body == ROM_OK
    assert line.flash.read(0, 4) == b"data"


# Stub


def test_the_stub_answers_sync_with_value_0(stub):
    assert stub.raw(frame("SYNC", SYNC)) == [bytes.fromhex("0108020000000000") + STUB_OK] * 8


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (frame(0x77), 0xC300),
        (b"\x01" + frame("SYNC", SYNC)[1:], 0xC300),
        (frame("READ_REG", words(0))[:-1], 0xC000),
        (frame("SYNC", b"short"), 0xC000),
        (frame("WRITE_REG", words(1, 2, 3)), 0xC800),
        (frame("FLASH_BEGIN", words(0)), 0xC000),
        (block("FLASH_DATA", 0, b"data"), 0xC600),
        (frame("FLASH_DATA", b"short"), 0xC800),
        (block("FLASH_DEFL_DATA", 0, b"data"), 0xC600),
        (frame("FLASH_END", words(1)), 0xC600),
        (frame("ERASE_REGION", words(1, 4096)), 0xC000),
        (frame("ERASE_REGION", words(0, 100)), 0xC000),
        (frame("SPI_FLASH_MD5", words(4 * MIB - 4, 8, 0, 0)), 0xC400),
        (frame("GET_SECURITY_INFO"), 0xFF00),  # the ESP32's ROM has none
        (frame("READ_FLASH_SLOW", words(0, 64)), 0xC300),
        (frame("FLASH_BEGIN", words(4096, 1, 16384, 0, 1)), 0xC400),  # encrypted: not modelled
        (frame("SPI_NAND_ATTACH", words(0)), 0xC300),
    ],
)
def test_what_the_stub_refuses(stub, request_, error):
    answer = stub.ask(request_)
    assert answer == (request_[1], 0, error.to_bytes(2, "big"))
    assert stub.flash.path.read_bytes() == b"\xff" * 4 * MIB


def test_the_stub_checks_blocks(stub):
    stub.ask(frame("FLASH_BEGIN", words(8, 2, 16384, 0)))
    assert stub.ask(block("FLASH_DATA", 0, b"data", 0)).body == b"\xc1\0"
    assert stub.ask(frame("FLASH_DATA", words(3, 0, 0, 0) + b"data")).body == b"\xc9\0"
    assert stub.ask(frame("FLASH_END", words(1))).body == b"\xc0\0"  # not all is there
    assert stub.ask(block("FLASH_DATA", 5, b"data")).body == STUB_OK  # numbers mean nothing to it
    assert stub.ask(block("FLASH_DATA", 5, b"more, padded")).body == STUB_OK
    assert stub.ask(frame("FLASH_END", words(1))).body == STUB_OK
    assert stub.flash.read(0, 12) == b"datamore\xff\xff\xff\xff"


def test_the_stub_writes_words_only(stub):
    stub.ask(frame("FLASH_BEGIN", words(6, 1, 16384, 0)))
    assert stub.ask(block("FLASH_DATA", 0, b"sixsix")).body == STUB_OK
    assert stub.ask(frame("FLASH_END", words(1))).body == b"\xc4\0"


def test_the_stub_knows_the_chips_size(tmp_path):
    line = Line(tmp_path, size=8 * MIB)
    line.start_stub()
    assert line.ask(frame("SPI_FLASH_MD5", words(8 * MIB - 4, 4, 0, 0))).body[-2:] == STUB_OK
    assert line.ask(frame("SPI_FLASH_MD5", words(8 * MIB - 4, 8, 0, 0))).body == b"\xc4\0"


def test_the_stub_takes_a_last_block_without_data(stub):
    data = bytes(65536)
    packed = zlib.compress(data)
    stub.ask(frame("FLASH_DEFL_BEGIN", words(len(data), 2, 16384, 0)))
    assert stub.ask(block("FLASH_DEFL_DATA", 0, packed[:-4])).body == STUB_OK
    assert stub.ask(block("FLASH_DEFL_DATA", 1, packed[-4:])).body == STUB_OK
    assert stub.ask(frame("FLASH_DEFL_END", words(1))).body == STUB_OK
    assert stub.flash.read(0, len(data)) == data


def test_the_stub_tells_of_a_failed_block_with_the_next_answer(stub):
    stub.ask(frame("FLASH_BEGIN", words(8, 2, 16384, 4 * MIB - 4)))
    assert stub.ask(block("FLASH_DATA", 0, b"data")).body == STUB_OK
    assert stub.ask(block("FLASH_DATA", 1, b"gone")).body == STUB_OK
    assert stub.ask(frame("READ_REG", words(0x40001000))) == (COMMANDS["READ_REG"], 0, b"\xc4\0")
    assert stub.ask(frame("READ_REG", words(0x40001000))).body == STUB_OK


def test_the_stub_tells_of_data_that_does_not_inflate_with_the_next_answer(stub):
    stub.ask(frame("FLASH_DEFL_BEGIN", words(8, 1, 16384, 0)))
    assert stub.ask(block("FLASH_DEFL_DATA", 0, b"no zlib")).body == STUB_OK
    assert stub.ask(frame("FLASH_END", words(1))).body == b"\xc7\0"


def test_the_stub_does_not_notice_a_read_only_chip(stub):
    stub.flash.read_only = True
    stub.ask(frame("FLASH_BEGIN", words(4, 1, 16384, 0)))
    assert stub.ask(block("FLASH_DATA", 0, b"data")).body == STUB_OK
    assert stub.ask(frame("FLASH_END", words(1))).body == STUB_OK
    assert stub.ask(frame("SPI_FLASH_MD5", words(0, 4, 0, 0))).body[:16] == hashlib.md5(b"\xff" * 4).digest()


@pytest.mark.parametrize("size", [len(DATA), 32768, 65536])
@pytest.mark.parametrize("piece", [999, 16384])
def test_the_stub_inflates_and_erases_as_it_goes(stub, size, piece):
    stub.flash.program(0x1000, bytes(0x20000))
    data = (DATA + DATA)[:size]
    packed = zlib.compress(data)
    pieces = [packed[at : at + piece] for at in range(0, len(packed), piece)]
    stub.ask(frame("FLASH_DEFL_BEGIN", words(size, len(pieces), piece, 0x2000)))
    for number, part in enumerate(pieces):
        assert stub.ask(block("FLASH_DEFL_DATA", number, part)).body == STUB_OK
    assert stub.ask(frame("FLASH_DEFL_END", words(1))).body == STUB_OK
    end = 0x2000 + size + -size % 4096
    assert stub.flash.read(0x2000, size) == data
    assert stub.flash.read(0x1000, 0x1000) == bytes(0x1000)  # before and after it nothing is erased
    assert stub.flash.read(end, 16) == bytes(16)
    assert stub.flash.violations == 0


def test_the_stub_sends_flash_packet_by_packet(stub):
    stub.flash.program(0, DATA)
    answer, first = stub.raw(frame("READ_FLASH", words(1, 5000, 2048, 64)))
    assert parse(answer) == (COMMANDS["READ_FLASH"], 0, STUB_OK)
    assert first == DATA[1:2049]
    assert stub.raw(words(2048)) == [DATA[2049:4097]]
    assert stub.raw(words(4096)) == [DATA[4097:5001]]
    assert stub.raw(words(5000)) == [hashlib.md5(DATA[1:5001]).digest()]
    assert len(stub.raw(frame("SYNC", SYNC))) == 8


def test_anything_but_an_acknowledgement_ends_the_reading(stub):
    stub.raw(frame("READ_FLASH", words(0, 5000, 2048, 64)))
    assert stub.raw(frame("SYNC", SYNC)) == [hashlib.md5(b"\xff" * 2048).digest()]
    assert len(stub.raw(frame("SYNC", SYNC))) == 8


def test_reading_nothing(stub):
    _, digest = stub.raw(frame("READ_FLASH", words(0, 0, 4096, 64)))
    assert digest == hashlib.md5().digest()


@pytest.mark.parametrize(("packet", "error"), [(0, 0xC000), (4097, 0xC000), (4096, 0xC400)])
def test_reading_that_cannot_be(stub, packet, error):
    assert stub.ask(frame("READ_FLASH", words(4 * MIB, 4096, packet, 64))).body == STUB_OK
    assert stub.ask(frame("READ_REG", words(0))).body == error.to_bytes(2, "big")


def test_the_stub_erases(stub):
    stub.flash.program(0, bytes(0x3000))
    assert stub.ask(frame("ERASE_REGION", words(0x1000, 0x1000))).body == STUB_OK
    assert stub.flash.read(0, 0x3000) == bytes(0x1000) + b"\xff" * 0x1000 + bytes(0x1000)
    assert stub.ask(frame("ERASE_FLASH")).body == STUB_OK
    assert stub.flash.read(0, 0x3000) == b"\xff" * 0x3000


def test_the_stub_changes_the_baud_rate_and_runs_what_is_flashed(stub):
    assert stub.ask(frame("CHANGE_BAUDRATE", words(460800, 115200))).body == STUB_OK
    assert stub.rom.baudrate == 460800
    assert stub.raw(frame("RUN_USER_CODE")) == []
    assert stub.runs == 1


def test_the_stub_goes_back_to_the_rom(stub):
    stub.ask(frame("CHANGE_BAUDRATE", words(460800, 115200)))
    stub.ask(frame("FLASH_BEGIN", words(0, 0, 0, 0)))
    assert stub.ask(frame("FLASH_END", words(0))).body == STUB_OK
    assert stub.rom.baudrate == 115200
    assert stub.ask(frame("SPI_ATTACH", words(0, 0))).body == ROM_OK


# Time and power


def test_a_slow_flash_answers_late_and_in_order(line):
    async def converse() -> list[int]:
        line.start_stub()
        line.flash.slow = 0.02  # 4 MiB in 0.2 s
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert line.raw(frame("ERASE_FLASH"), frame("READ_REG", words(0)), frame("SYNC", SYNC)) == []
        assert line.raw(frame("SPI_ATTACH", words(0))) == []  # one too many: lost
        got: list[bytes] = []
        async with asyncio.timeout(20):
            while len(got) < 10:
                await asyncio.sleep(0.01)
                got += line.taken()
        assert loop.time() - start >= 0.19
        line.ask(frame("READ_REG", words(0)))  # from now on at once
        return [parse(answer).command for answer in got]

    erase, read, *sync = asyncio.run(converse())
    assert (erase, read) == (COMMANDS["ERASE_FLASH"], COMMANDS["READ_REG"])
    assert sync == [COMMANDS["SYNC"]] * 8


def test_a_block_is_answered_before_it_is_programmed(stub):
    async def converse() -> None:
        stub.flash.slow = 1000
        stub.ask(frame("FLASH_BEGIN", words(0, 1, 16384, 0)))
        stub.ask(frame("FLASH_BEGIN", words(4, 1, 16384, 0)))
        assert stub.raw(block("FLASH_DATA", 0, b"data")) == []  # still erasing
        stub.rom.stop()

    asyncio.run(converse())


def test_a_stopped_chip_says_nothing_more(stub: Line) -> None:
    async def converse() -> list[bytes]:
        stub.flash.slow = 0.001
        stub.raw(frame("ERASE_FLASH"))
        stub.rom.stop()
        await asyncio.sleep(0.05)
        return stub.raw(frame("SYNC", SYNC))

    assert asyncio.run(converse()) == []
    assert not stub.sent


def test_brownout_silences_the_chip_and_is_told(stub):
    told = []
    stub.flash.on_brownout = lambda: told.append(stub.flash.read(0, 4))
    stub.ask(frame("FLASH_BEGIN", words(4096, 1, 16384, 0)))
    stub.flash.brownout = 1024
    assert stub.ask(block("FLASH_DATA", 0, bytes(4096))).body == STUB_OK
    assert told == [bytes(4)]
    assert stub.raw(frame("SYNC", SYNC)) == []
    assert stub.flash.read(1024 + 256, 4096 - 1280) == b"\xff" * (4096 - 1280)
    assert stub.runs == 0


@pytest.mark.parametrize("chip", ["esp32s3", "esp32c3", "esp32c6"])
def test_the_watchdog_bites_only_when_unlocked(tmp_path, chip):
    target = CHIP_DEFS[chip]
    line = Line(tmp_path, chip)
    enable = frame("WRITE_REG", words(target.RTC_CNTL_WDTCONFIG0_REG, 1 << 31, 0xFFFFFFFF, 0))
    unlock = frame(
        "WRITE_REG", words(target.RTC_CNTL_WDTWPROTECT_REG, target.RTC_CNTL_WDT_WKEY, 0xFFFFFFFF, 0)
    )

    async def bitten() -> int:
        line.raw(enable)
        await asyncio.sleep(0.1)
        assert line.runs == 0
        stopped = Line(tmp_path, chip)
        stopped.raw(unlock, enable)
        stopped.rom.stop()
        line.raw(unlock, enable)
        assert line.runs == 0  # it takes a moment
        async with asyncio.timeout(20):
            while not line.runs:
                await asyncio.sleep(0.01)
        assert stopped.runs == 0
        return line.runs

    assert asyncio.run(bitten()) == 1


def test_status_registers_need_a_permit(tmp_path):
    commands = SpiCommands(Line(tmp_path).flash)
    commands.transfer(0x01, 0, b"\x40", 0)
    assert commands.transfer(0x05, 0, b"", 1) == b"\0"
    commands.transfer(0x06, 0, b"", 0)
    assert commands.transfer(0x05, 0, b"", 1) == b"\x02"
    commands.transfer(0x06, 0, b"", 0)
    assert commands.transfer(0x01, 0, b"\x40\x02", 0) == b""
    assert commands.transfer(0x05, 0, b"", 2) == b"\x40\x40"
    assert commands.transfer(0x35, 0, b"", 1) == b"\x02"
    assert commands.transfer(0x77, 0, b"", 3) == b"\xff\xff\xff"


# Beside another ROM


class Patient(BootloaderConnection):  # type: ignore[misc]
    """It waits 50 ms for the acknowledgement of a packet of flash: too short for a busy machine."""

    def set_timeout(self, timeout: float) -> None:
        super().set_timeout(60.0)


class Other:
    """esp32-mock-bootloader, by somebody else."""

    def __init__(self, chip: str) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(60)
        self._stop = threading.Event()
        connection = Patient(sock=theirs)
        self._thread = threading.Thread(
            target=handle_client, args=(connection, self._stop, chip), kwargs={"flash": FlashImage()}
        )
        self._thread.start()
        self._slip = slip.Decoder(65536)

    def raw(self, request: bytes, count: int) -> list[bytes]:
        self._socket.sendall(slip.encode(request))
        got: list[bytes] = []
        while len(got) < count:
            got += self._slip.feed(self._socket.recv(65536))
        return got

    def close(self) -> None:
        self._stop.set()
        self._socket.close()
        self._thread.join(10)


@pytest.mark.parametrize("chip", CHIPS)
def test_both_roms_answer_alike(tmp_path, chip):
    target = CHIP_DEFS[chip]
    line, other = Line(tmp_path, chip), Other(chip)
    encrypt = () if chip == "esp32" else (0,)
    packed = zlib.compress(DATA)
    spi = target.SPI_REG_BASE

    def both(request: bytes, *, with_value: bool = False) -> None:
        ours = line.raw(request)
        theirs = other.raw(request, len(ours))
        assert len(ours) == len(theirs)
        for mine, its in zip(ours, theirs, strict=True):
            if mine[:1] != b"\x01" or len(mine) < 8:
                assert mine == its  # a packet of flash, a digest, the greeting
                continue
            # The mock does not leave the last register in other answers.
            first, second = parse(mine), parse(its)
            assert first.command == second.command
            assert first.value == second.value or not with_value
            # It forgets the two reserved bytes behind a ROM's digest.
            assert first.body == second.body.ljust(len(first.body), b"\0")

    def write_and_look() -> None:
        both(frame("FLASH_BEGIN", words(4096, 1, 4096, 0x1000, *encrypt)))
        both(block("FLASH_DATA", 0, DATA[:4096]))
        both(frame("FLASH_DEFL_BEGIN", words(len(DATA), 1, len(packed), 0x10000, *encrypt)))
        both(block("FLASH_DEFL_DATA", 0, packed))
        both(frame("SPI_FLASH_MD5", words(0x1000, 4096, 0, 0)))
        both(frame("SPI_FLASH_MD5", words(0x10000, len(DATA) + 100, 0, 0)))

    try:
        both(frame("SYNC", SYNC))
        both(frame("READ_REG", words(0x40001000)), with_value=chip == "esp32")
        both(frame("SPI_ATTACH", words(0, 0)))
        both(frame("SPI_SET_PARAMS", words(0, 4 * MIB, 65536, 4096, 256, 0xFFFF)))
        both(frame("WRITE_REG", words(spi + target.SPI_USR2_OFFS, 7 << 28 | 0x5A, 0xFFFFFFFF, 0)))
        for register, value in (
            (target.SPI_USR_OFFS, 1 << 31 | 1 << 30 | 1 << 28),
            (target.SPI_MISO_DLEN_OFFS, 31),
            (target.SPI_USR1_OFFS, 23 << 26),
            (4, 0),
            (0, 1 << 18),
        ):
            both(frame("WRITE_REG", words(spi + register, value, 0xFFFFFFFF, 0)))
        both(frame("READ_REG", words(spi)), with_value=True)
        both(frame("READ_REG", words(spi + target.SPI_W0_OFFS)), with_value=True)  # "SFDP"
        write_and_look()
        both(frame("READ_FLASH_SLOW", words(0x1000, 64)))
        both(frame("MEM_BEGIN", words(4, 1, 4, 0x40080000)))
        both(block("MEM_DATA", 0, b"code", 0))  # the checksum is wrong
        both(block("MEM_DATA", 0, b"code"))
        line_answers = line.raw(frame("MEM_END", words(0, 0x40080000)))
        other_answers = other.raw(frame("MEM_END", words(0, 0x40080000)), 2)
        assert line_answers[1] == other_answers[1] == b"OHAI"
        both(frame("SYNC", SYNC), with_value=True)
        encrypt = (0,)
        write_and_look()
        both(frame("ERASE_REGION", words(0x1000, 0x1000)))
        both(frame("SPI_FLASH_MD5", words(0, 0x10000, 0, 0)))
        both(frame("READ_FLASH", words(0x10000, 6000, 4096, 1)))
        both(words(4096))
        both(words(6000))
        both(frame("ERASE_FLASH"))
        both(frame("SPI_FLASH_MD5", words(0, 4 * MIB, 0, 0)))
    finally:
        other.close()
