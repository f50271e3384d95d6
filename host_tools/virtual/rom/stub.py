"""esptool's flasher stub, as its source has it (espressif/esp-flasher-stub, src/command_handler.c of 2026).

esptool 5.6 ships release 1.4.1 of it. What we add to that source is marked "Ours".
"""

import hashlib
import zlib
from collections.abc import Callable

from host_tools.virtual.flash_chip import BLOCK, SECTOR
from host_tools.virtual.rom.chip import Chip
from host_tools.virtual.rom.flash_bus import FlashFailed
from host_tools.virtual.rom.packets import COMMANDS, DATA_HEADER, Request, checksum, parse, response
from host_tools.virtual.rom.ram import RamError
from host_tools.virtual.rom.registers import security_info

GREETING = b"OHAI"

# Status, both bytes.
BAD_LENGTH = 0xC000
BAD_CHECKSUM = 0xC100
INVALID_COMMAND = 0xC300
FLASH_FAILED = 0xC400
NOT_IN_FLASH_MODE = 0xC600
INFLATE_FAILED = 0xC700
NOT_ENOUGH_DATA = 0xC800
TOO_MUCH_DATA = 0xC900
NOT_IMPLEMENTED = 0xFF00

_WINDOW = 32768  # decompressed bytes are programmed in such pieces
_ADLER = 4  # bytes at the end of compressed data that make no output
_LONGEST_READ = 4096  # bytes a packet
_ACK = 4  # bytes


class _Error(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class _Download:
    """Blocks on their way into the flash, which is erased as they come."""

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.left = size
        self.inflate: zlib._Decompress | None = None
        self.pending = bytearray()
        self.erase_from = offset - offset % SECTOR
        end = offset + size
        self.erase_to = end + -end % SECTOR if size else self.erase_from


class _Reading:
    """Flash on its way to the host: the next packet when the last one is acknowledged."""

    def __init__(self, offset: int, size: int, packet: int) -> None:
        self.offset = offset
        self.size = size
        self.left = size
        self.packet = packet
        self.digest = hashlib.md5()


class Stub:
    """Takes frames, answers them to the chip's agenda.

    A block is answered before it is programmed; if that fails, the next request gets the error instead of
    what it asked for.
    """

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._carried = 0
        self._download: _Download | None = None
        self._reading: _Reading | None = None
        self._afterwards: Callable[[], None] | None = None
        chip.bus.configure(chip.flash_size)
        handlers: dict[str, Callable[[Request], bytes]] = {
            "SYNC": self._sync,
            "FLASH_BEGIN": self._begin,
            "FLASH_DATA": self._data,
            "FLASH_END": self._end,
            "FLASH_DEFL_BEGIN": self._begin,
            "FLASH_DEFL_DATA": self._compressed_data,
            "FLASH_DEFL_END": self._end,
            "MEM_BEGIN": self._mem_begin,
            "MEM_DATA": self._mem_data,
            "MEM_END": self._mem_end,
            "WRITE_REG": self._write_reg,
            "SPI_SET_PARAMS": self._set_params,
            "SPI_ATTACH": self._attach,
            "CHANGE_BAUDRATE": self._change_baudrate,
            "SPI_FLASH_MD5": self._md5,
            "GET_SECURITY_INFO": self._security_info,
            "READ_FLASH": self._read,
            "ERASE_FLASH": self._erase_flash,
            "ERASE_REGION": self._erase_region,
        }
        self._handlers = {COMMANDS[name]: handler for name, handler in handlers.items()}

    def take(self, frame: bytes) -> None:
        """One frame from the host."""
        if self._reading is not None:
            self._guard(lambda: self._acknowledged(frame))
            return
        request = parse(frame)
        if request is None:
            return
        if not request.is_request:
            self._fail(request, INVALID_COMMAND)
        elif not request.is_whole:
            self._fail(request, BAD_LENGTH)
        elif self._carried:
            self._fail(request, self._carried)
            self._carried = 0
        elif request.command == COMMANDS["RUN_USER_CODE"]:
            self._chip.agenda.then(self._chip.run)  # Ours: that source ignores it.
        else:
            self._serve(request)

    def _serve(self, request: Request) -> None:
        value = 0
        try:
            if request.command == COMMANDS["READ_REG"]:
                _need(request, 4)
                value, body = self._chip.registers.read(request.words()[0]), b""
            elif request.command in self._handlers:
                body = self._handlers[request.command](request)
            else:
                raise _Error(INVALID_COMMAND)
        except (_Error, FlashFailed, RamError) as error:
            self._afterwards = None
            self._fail(request, _code(error))
            return
        repeats = 8 if request.command == COMMANDS["SYNC"] else 1
        self._chip.agenda.say(*[response(request.command, value, body + b"\0\0")] * repeats)
        if self._afterwards:
            afterwards, self._afterwards = self._afterwards, None
            self._guard(afterwards)

    def _fail(self, request: Request, code: int) -> None:
        self._chip.agenda.say(response(request.command, 0, code.to_bytes(2, "big")))

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (_Error, FlashFailed) as error:
            self._carried = _code(error)
            self._reading = None

    # Downloads

    def _begin(self, request: Request) -> bytes:
        if len(request.data) not in (16, 20):
            raise _Error(BAD_LENGTH)
        size, _, _, offset, *encrypt = request.words()
        if any(encrypt):
            raise FlashFailed  # Ours: encrypted writes are not modelled.
        self._download = download = _Download(offset, size)
        self._afterwards = lambda: self._erase_next(download)
        return b""

    def _data(self, request: Request) -> bytes:
        if len(request.data) < DATA_HEADER:
            raise _Error(NOT_ENOUGH_DATA)
        download = self._in_progress()
        block = request.block()
        if request.words()[0] != len(block):
            raise _Error(TOO_MUCH_DATA)
        if checksum(block) != request.checksum:
            raise _Error(BAD_CHECKSUM)
        self._afterwards = lambda: self._program(download, block[: download.left])
        return b""

    def _compressed_data(self, request: Request) -> bytes:
        if len(request.data) < DATA_HEADER:
            raise _Error(BAD_LENGTH)
        download = self._in_progress()
        block = request.block()
        if not download.left and len(block) > _ADLER:
            raise _Error(TOO_MUCH_DATA)
        length, number = request.words()[:2]
        # With another length the stub sums up what it has not received.
        if length != len(block) or checksum(block) != request.checksum:
            raise _Error(BAD_CHECKSUM)
        self._afterwards = lambda: self._inflate(download, block, number)
        return b""

    def _inflate(self, download: _Download, block: bytes, number: int) -> None:
        if download.inflate is None:
            # The number of a block has no other meaning than this.
            download.inflate = zlib.decompressobj(zlib.MAX_WBITS if number == 0 else -zlib.MAX_WBITS)
        inflate = download.inflate
        full = True
        while full and not inflate.eof:
            try:
                download.pending += inflate.decompress(block, _WINDOW - len(download.pending))
            except zlib.error:
                raise _Error(INFLATE_FAILED) from None
            block = inflate.unconsumed_tail
            full = len(download.pending) == _WINDOW
            if inflate.eof or full:
                self._program(download, bytes(download.pending))
                download.pending.clear()

    def _program(self, download: _Download, data: bytes) -> None:
        while download.erase_from < min(download.offset + len(data), download.erase_to):
            self._erase_next(download)
        self._chip.bus.program(download.offset, data)
        download.offset += len(data)
        download.left = (download.left - len(data)) & 0xFFFFFFFF

    def _erase_next(self, download: _Download) -> None:
        left = download.erase_to - download.erase_from
        if left:
            unit = BLOCK if left >= BLOCK and not download.erase_from % BLOCK else SECTOR
            self._chip.bus.erase(download.erase_from, unit)
            download.erase_from += unit

    def _end(self, request: Request) -> bytes:
        _need(request, 4)
        if self._in_progress().left:
            raise _Error(BAD_LENGTH)
        self._download = None
        if request.words()[0] == 0:
            # Ours: that source does not reset yet. esptool wants the ROM back, as older stubs gave it; the
            # pins are latched, so that a software reset comes up in download mode again.
            self._chip.agenda.then(self._chip.start_rom)
        return b""

    def _in_progress(self) -> _Download:
        if self._download is None:
            raise _Error(NOT_IN_FLASH_MODE)
        return self._download

    # Reading

    def _read(self, request: Request) -> bytes:
        _need(request, 16)
        offset, size, packet, _ = request.words()
        self._afterwards = lambda: self._start_reading(offset, size, packet)
        return b""

    def _start_reading(self, offset: int, size: int, packet: int) -> None:
        if not 0 < packet <= _LONGEST_READ:
            raise _Error(BAD_LENGTH)
        self._reading = _Reading(offset, size, packet)
        if not self._send_packet():
            self._finish_reading()

    def _acknowledged(self, frame: bytes) -> None:
        assert self._reading is not None
        is_ack = len(frame) == _ACK
        if is_ack and (self._send_packet() or int.from_bytes(frame, "little") < self._reading.size):
            return
        self._finish_reading()

    def _send_packet(self) -> bool:
        reading = self._reading
        assert reading is not None
        if not reading.left:
            return False
        data = self._chip.bus.read(reading.offset, min(reading.left, reading.packet))
        reading.offset += len(data)
        reading.left -= len(data)
        reading.digest.update(data)
        self._chip.agenda.say(data)
        return True

    def _finish_reading(self) -> None:
        assert self._reading is not None
        self._chip.agenda.say(self._reading.digest.digest())
        self._reading = None

    def _md5(self, request: Request) -> bytes:
        _need(request, 16)
        offset, length = request.words()[:2]
        return self._chip.bus.md5(offset, length)

    # Erasing

    def _erase_flash(self, request: Request) -> bytes:
        self._chip.bus.erase_chip()
        return b""

    def _erase_region(self, request: Request) -> bytes:
        _need(request, 8)
        offset, size = request.words()
        if offset % SECTOR or size % SECTOR:
            raise _Error(BAD_LENGTH)
        self._chip.bus.erase(offset, size)
        return b""

    # The rest

    def _sync(self, request: Request) -> bytes:
        _need(request, 36)
        return b""

    def _mem_begin(self, request: Request) -> bytes:
        _need(request, 16)
        size, _, _, address = request.words()
        self._chip.ram.begin(size, address)
        return b""

    def _mem_data(self, request: Request) -> bytes:
        if len(request.data) < DATA_HEADER:
            raise _Error(NOT_ENOUGH_DATA)
        block = request.block()
        if request.words()[0] != len(block):
            raise _Error(TOO_MUCH_DATA)
        self._chip.ram.load(block)
        return b""

    def _mem_end(self, request: Request) -> bytes:
        _need(request, 8)
        stay, entry = request.words()
        if not stay:
            action = self._chip.start_stub if self._chip.ram.has_code_at(entry) else self._chip.hang
            self._afterwards = lambda: self._chip.agenda.then(action)
        return b""

    def _write_reg(self, request: Request) -> bytes:
        words = request.words()
        if not words or len(request.data) % 16:
            raise _Error(NOT_ENOUGH_DATA)
        for at in range(0, len(words), 4):
            self._chip.registers.write(*words[at : at + 3])
        return b""

    def _set_params(self, request: Request) -> bytes:
        _need(request, 24)
        self._chip.bus.configure(request.words()[1])
        return b""

    def _attach(self, request: Request) -> bytes:
        _need(request, 4)
        return b""

    def _change_baudrate(self, request: Request) -> bytes:
        _need(request, 8)
        rate = request.words()[0]
        if rate:
            self._afterwards = lambda: self._chip.agenda.then(lambda: self._chip.change_baudrate(rate))
        return b""

    def _security_info(self, request: Request) -> bytes:
        _need(request, 0)
        if not self._chip.target.SECURITY_INFO_SUPPORTED:
            raise _Error(NOT_IMPLEMENTED)
        return security_info(self._chip.target, self._chip.efuses)


def _need(request: Request, length: int) -> None:
    if len(request.data) != length:
        raise _Error(BAD_LENGTH)


def _code(error: Exception) -> int:
    if isinstance(error, _Error):
        return error.code
    return FLASH_FAILED if isinstance(error, FlashFailed) else TOO_MUCH_DATA
