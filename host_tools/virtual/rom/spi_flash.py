"""The flash chip's commands beyond read, program and erase, and the controller that sends them.

esptool drives the SPI controller register by register to ask the chip who it is (`run_spiflash_command`).
"""

import struct
from typing import Any

from host_tools.virtual.flash_chip import FlashChip

_WRITE_STATUS = {0x01: 0, 0x31: 1, 0x11: 2}  # command: register, from 0
_READ_STATUS = {0x05: 0, 0x35: 1, 0x15: 2}
_WRITE_ENABLE, _WRITE_DISABLE, _VOLATILE_ENABLE = 0x06, 0x04, 0x50
_READ_ID, _READ_SFDP = 0x9F, 0x5A
_BLOCK_PROTECT = 0x1C  # BP2..BP0 in the first status register: everything

_START = 1 << 18  # SPI_CMD_REG
_HAS_ADDRESS, _HAS_MISO, _HAS_MOSI = 1 << 30, 1 << 28, 1 << 27  # SPI_USER_REG
_BUFFER = 64  # bytes in the registers from W0 on


class SpiCommands:
    """What the chip answers; commands that it does not know leave the line high."""

    def __init__(self, chip: FlashChip) -> None:
        self._chip = chip
        self._status = bytearray(3)
        self._may_write = False

    def transfer(self, command: int, address: int, data: bytes, length: int) -> bytes:
        """Send a command with its address and data; `length` bytes come back."""
        if command in _READ_STATUS:
            return bytes((self._read_status(_READ_STATUS[command]),)) * length
        if command in _WRITE_STATUS and self._may_write:
            first = _WRITE_STATUS[command]
            data = data[: len(self._status) - first]
            self._status[first : first + len(data)] = data
        self._may_write = command in (_WRITE_ENABLE, _VOLATILE_ENABLE)
        answer = b""
        if command == _READ_ID:
            answer = self._chip.jedec_id
        elif command == _READ_SFDP:
            answer = sfdp(self._chip.size)[address:]
        return answer[:length].ljust(length, b"\xff")

    def _read_status(self, register: int) -> int:
        value = self._status[register]
        if register == 0:
            value |= self._may_write << 1
            if self._chip.read_only:
                value |= _BLOCK_PROTECT
        return value


def sfdp(size: int) -> bytes:
    """The discoverable parameters (JESD216) of a chip of `size` bytes, with the basic table alone."""
    basic = struct.pack(
        "<9I",
        0xFFF120E5,  # 4 KiB erase by 20h, three address bytes, all fast reads
        size * 8 - 1,
        0x6B08EB44,
        0xBB423B08,
        0xFFFFFFFE,
        0x0000FFFF,
        0xEB21FFFF,
        0x520F200C,  # erase 4 KiB by 20h, 32 KiB by 52h
        0x0000D810,  # erase 64 KiB by D8h
    )
    at = 0x80
    header = b"SFDP" + bytes((0, 1, 0, 0xFF))  # revision 1.0, one parameter header
    parameters = bytes((0, 0, 1, 9)) + struct.pack("<I", 0xFF000000 | at)  # basic table 1.0: 9 words
    return (header + parameters).ljust(at, b"\xff") + basic


class SpiController:
    """Registers of the controller that has the flash; offsets are those of esptool's `target`."""

    def __init__(self, target: Any, commands: SpiCommands) -> None:
        self._target = target
        self._commands = commands
        self._words: dict[int, int] = {}

    def owns(self, address: int) -> bool:
        """True for the addresses of its registers."""
        return address & ~0xFF == int(self._target.SPI_REG_BASE)

    def read(self, address: int) -> int:
        """A register; a command is over at once."""
        return self._words.get(address - self._target.SPI_REG_BASE, 0)

    def write(self, address: int, value: int) -> None:
        """A register; the start bit of the first one runs the command."""
        offset = address - self._target.SPI_REG_BASE
        if offset == 0 and value & _START:
            self._run()
            value &= ~_START
        self._words[offset] = value

    def _run(self) -> None:
        target, words = self._target, self._words
        user = words.get(target.SPI_USR_OFFS, 0)
        address_bits = (words.get(target.SPI_USR1_OFFS, 0) >> 26) + 1
        address = words.get(4, 0)
        address = address >> (32 - min(address_bits, 32)) if target.SPI_ADDR_REG_MSB else address
        first = target.SPI_W0_OFFS
        buffer = struct.pack("<16I", *(words.get(first + n, 0) for n in range(0, _BUFFER, 4)))
        sent = self._length(target.SPI_MOSI_DLEN_OFFS) if user & _HAS_MOSI else 0
        wanted = self._length(target.SPI_MISO_DLEN_OFFS) if user & _HAS_MISO else 0
        answer = self._commands.transfer(
            words.get(target.SPI_USR2_OFFS, 0) & 0xFF,
            address if user & _HAS_ADDRESS else 0,
            buffer[:sent],
            wanted,
        )
        padded = answer + bytes(-len(answer) % 4)
        for n, (word,) in enumerate(struct.iter_unpack("<I", padded)):
            words[first + 4 * n] = word

    def _length(self, register: int) -> int:
        return min((self._words.get(register, 0) + 8) // 8, _BUFFER)
