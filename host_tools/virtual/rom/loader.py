"""The ROM's own loader.

Formats and error codes are from esptool's documentation ("Serial Protocol") and from traces of real chips
in its issues. What is known from neither is marked "Ours".
"""

import zlib
from collections.abc import Callable

from esptool.loader import ESPLoader

from host_tools.virtual.rom.chip import Chip
from host_tools.virtual.rom.flash_bus import FlashFailed
from host_tools.virtual.rom.packets import COMMANDS, DATA_HEADER, Request, checksum, parse, response
from host_tools.virtual.rom.ram import RamError
from host_tools.virtual.rom.registers import security_info

# Status, second byte.
INVALID = int(ESPLoader.ROM_INVALID_RECV_MSG)
FAILED = 0x06
BAD_CHECKSUM = 0x07
WRITE_FAILED = 0x08
READ_FAILED = 0x09
READ_TOO_LONG = 0x0A
INFLATE_FAILED = 0x0B

_SYNC_VALUE = 0x55201207  # a ROM's register, as it was left by SYNC; the stub has 0 there
_REPEATS = 8
_SLOW_READ = 64  # bytes
_PIECE = 4096  # decompressed at a time
_WORD = 4  # bytes; flash is programmed in words
# The ESP32-S3's rom_spiflash_legacy_funcs.read. With secure boot its ROM does not run a program from RAM, so
# esptool lets this point to the stub and asks for a read.
_READ_POINTER = {"ESP32-S3": 0x3FCEF688}
_NO_PROGRAMS_WITH_SECURE_BOOT = ("ESP32-S3", "ESP32-C3")
_SECURE_DOWNLOAD = (
    "SYNC",
    "SPI_SET_PARAMS",
    "SPI_ATTACH",
    "CHANGE_BAUDRATE",
    "GET_SECURITY_INFO",
    "FLASH_BEGIN",
    "FLASH_DATA",
    "FLASH_END",
    "FLASH_DEFL_BEGIN",
    "FLASH_DEFL_DATA",
    "FLASH_DEFL_END",
)


class _Error(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class _Download:
    """Blocks on their way into the flash."""

    def __init__(self, offset: int, size: int, blocks: int, *, compressed: bool) -> None:
        self.offset = offset
        self.left = size
        self.blocks = blocks
        self.next = 0
        self.inflate = zlib.decompressobj() if compressed else None
        self.rest = b""  # of a word that is decompressed in part


class RomLoader:
    """Takes frames, answers them to the chip's agenda."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._value = _SYNC_VALUE  # the last register read stays in the responses that follow
        self._download: _Download | None = None
        self._next_ram_block = 0
        self._afterwards: Callable[[], None] | None = None
        handlers: dict[str, Callable[[Request], bytes]] = {
            "SYNC": self._sync,
            "FLASH_BEGIN": lambda request: self._begin(request, compressed=False),
            "FLASH_DATA": lambda request: self._data(request, compressed=False),
            "FLASH_END": self._end,
            "FLASH_DEFL_BEGIN": lambda request: self._begin(request, compressed=True),
            "FLASH_DEFL_DATA": lambda request: self._data(request, compressed=True),
            "FLASH_DEFL_END": self._end,
            "MEM_BEGIN": self._mem_begin,
            "MEM_DATA": self._mem_data,
            "MEM_END": self._mem_end,
            "READ_REG": self._read_reg,
            "WRITE_REG": self._write_reg,
            "SPI_SET_PARAMS": self._set_params,
            "SPI_ATTACH": self._attach,
            "CHANGE_BAUDRATE": self._change_baudrate,
            "SPI_FLASH_MD5": self._md5,
            "READ_FLASH_SLOW": self._read_slow,
        }
        if chip.target.SECURITY_INFO_SUPPORTED:
            handlers["GET_SECURITY_INFO"] = self._security_info
        if chip.efuses.secure_download:
            handlers = {name: handlers[name] for name in _SECURE_DOWNLOAD}
        self._handlers = {COMMANDS[name]: handler for name, handler in handlers.items()}

    def take(self, frame: bytes) -> None:
        """One frame from the host."""
        request = parse(frame)
        if request is None or not request.is_request:
            return
        handler = self._handlers.get(request.command)
        if handler is None:
            # esptool knows such an answer by its foreign command and its eight repeats. Ours: the 0.
            self._say(0, _status(INVALID), repeats=_REPEATS)
            return
        if self._runs_stub(request):
            self._chip.agenda.then(self._chip.start_stub)
            return
        try:
            if not request.is_whole:
                raise _Error(INVALID)
            body = handler(request) + _status()
        except _Error as error:
            body = _status(error.code)
        except FlashFailed:
            body = _status(FAILED)
        except RamError:
            body = _status(INVALID)
        self._say(request.command, body, repeats=_REPEATS if request.command == COMMANDS["SYNC"] else 1)
        afterwards, self._afterwards = self._afterwards, None
        if afterwards:
            self._chip.agenda.then(afterwards)

    def _say(self, command: int, body: bytes, *, repeats: int) -> None:
        self._chip.agenda.say(*[response(command, self._value, body)] * repeats)

    def _sync(self, request: Request) -> bytes:
        _need(request, 36)
        self._value = _SYNC_VALUE
        return b""

    def _begin(self, request: Request, *, compressed: bool) -> bytes:
        # The ESP32 does not know the fifth word, whether to encrypt.
        _need(request, 20 if self._chip.target.SECURITY_INFO_SUPPORTED else 16)
        size, blocks, _, offset, *encrypt = request.words()
        self._download = None
        if any(encrypt):
            raise _Error(FAILED)  # Ours: encrypted writes are not modelled.
        if size:
            self._chip.bus.check(offset, size)
            self._chip.bus.erase(offset, size)
        self._download = _Download(offset, size, blocks, compressed=compressed)
        return b""

    def _data(self, request: Request, *, compressed: bool) -> bytes:
        block = _block(request)
        download = self._download
        if download is None or (download.inflate is not None) != compressed:
            raise _Error(FAILED)
        # Ours: how the ROM minds the sequence number. One block is one step here, whatever happens to it.
        if request.words()[1] != download.next or download.next >= download.blocks:
            raise _Error(INVALID)
        if checksum(block) != request.checksum & 0xFF:
            raise _Error(BAD_CHECKSUM)
        if download.inflate is None:
            self._program(download, block)
        else:
            self._inflate(download, download.inflate, block)
        download.next += 1
        return b""

    def _inflate(self, download: _Download, inflate: "zlib._Decompress", block: bytes) -> None:
        full = True
        while full and not inflate.eof:
            try:
                data = inflate.decompress(block, _PIECE)
            except zlib.error:
                raise _Error(INFLATE_FAILED) from None
            block = inflate.unconsumed_tail
            full = len(data) == _PIECE
            data = download.rest + data
            whole = len(data) if inflate.eof else len(data) - len(data) % _WORD
            download.rest = data[whole:]
            self._program(download, data[:whole])

    def _program(self, download: _Download, data: bytes) -> None:
        if len(data) > download.left:
            # A block that is not compressed is padded to its full length.
            data = data[: download.left]
        download.left -= len(data)
        padded = data + b"\xff" * (-len(data) % _WORD)
        self._chip.bus.program(download.offset, padded)
        if self._chip.bus.read(download.offset, len(data)) != data:
            raise _Error(WRITE_FAILED)
        download.offset += len(data)

    def _end(self, request: Request) -> bytes:
        _need(request, 4)
        self._download = None
        self._afterwards = self._chip.run  # 0 reboots, 1 runs what is in the flash
        return b""

    def _mem_begin(self, request: Request) -> bytes:
        _need(request, 16)
        size, _, _, address = request.words()
        self._chip.ram.begin(size, address)
        self._next_ram_block = 0
        return b""

    def _mem_data(self, request: Request) -> bytes:
        block = _block(request)
        if request.words()[1] != self._next_ram_block:
            raise _Error(INVALID)
        if checksum(block) != request.checksum & 0xFF:
            raise _Error(BAD_CHECKSUM)
        self._chip.ram.load(block)
        self._next_ram_block += 1
        return b""

    def _mem_end(self, request: Request) -> bytes:
        _need(request, 8)
        stay, entry = request.words()
        if stay:
            return b""
        chip = self._chip
        if chip.efuses.secure_boot and chip.target.CHIP_NAME in _NO_PROGRAMS_WITH_SECURE_BOOT:
            return b""
        # Any program is taken for the flasher stub. One that was not loaded whole crashes.
        self._afterwards = chip.start_stub if chip.ram.has_code_at(entry) else chip.hang
        return b""

    def _runs_stub(self, request: Request) -> bool:
        pointer = _READ_POINTER.get(self._chip.target.CHIP_NAME)
        if pointer is None or request.command != COMMANDS["READ_FLASH_SLOW"]:
            return False
        return self._chip.ram.has_code_at(self._chip.registers.read(pointer))

    def _read_reg(self, request: Request) -> bytes:
        _need(request, 4)
        self._value = self._chip.registers.read(request.words()[0])
        return b""

    def _write_reg(self, request: Request) -> bytes:
        words = request.words()
        if not words or len(request.data) % 16:
            raise _Error(INVALID)
        for at in range(0, len(words), 4):
            self._chip.registers.write(*words[at : at + 3])
        return b""

    def _set_params(self, request: Request) -> bytes:
        _need(request, 24)
        self._chip.bus.configure(request.words()[1])
        return b""

    def _attach(self, request: Request) -> bytes:
        _need(request, 8)
        return b""

    def _change_baudrate(self, request: Request) -> bytes:
        _need(request, 8)
        rate = request.words()[0]
        if not rate:
            raise _Error(INVALID)
        self._afterwards = lambda: self._chip.change_baudrate(rate)
        return b""

    def _md5(self, request: Request) -> bytes:
        _need(request, 16)
        offset, length = request.words()[:2]
        try:
            return self._chip.bus.md5(offset, length).hex().encode()
        except FlashFailed:
            raise _Error(READ_FAILED) from None

    def _read_slow(self, request: Request) -> bytes:
        _need(request, 8)
        offset, length = request.words()
        if length > _SLOW_READ:
            raise _Error(READ_TOO_LONG)
        try:
            return self._chip.bus.read(offset, length).ljust(_SLOW_READ, b"\0")
        except FlashFailed:
            raise _Error(READ_FAILED) from None

    def _security_info(self, request: Request) -> bytes:
        _need(request, 0)
        return security_info(self._chip.target, self._chip.efuses)


def _need(request: Request, length: int) -> None:
    if len(request.data) != length:
        raise _Error(INVALID)


def _block(request: Request) -> bytes:
    block = request.block()
    if len(request.data) < DATA_HEADER or request.words()[0] != len(block):
        raise _Error(INVALID)
    return block


def _status(error: int = 0) -> bytes:
    return bytes((1 if error else 0, error, 0, 0))
