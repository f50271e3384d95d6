"""The board's NOR flash: a file, with the rules that a flash chip has, and faults on demand.

Erase sets a 4 KiB sector to ones. Programming only clears bits: asking it to set one is what loses data
on a chip without a word, so here it is an error. What the chip does in one go is an operation: it programs
within a page of 256 bytes, or erases a sector. Power can be cut before, in or after each of them.
"""

import time

SECTOR = 4096
_PAGE = 256
# Typical times of a W25Q32JV, in microseconds; host_tools/virtual/flash_chip.py has the same.
_PROGRAM_US = 400
_ERASE_US = 45000


class FlashViolation(OSError):
    """The firmware tried to set a bit from 0 to 1 by programming."""


class PowerCut(BaseException):
    """The power is gone. It is no Exception, so that nothing which survives errors survives it."""


class Flash:
    """`file` is a path, or an open file. The counters count from the start, for benchmarks."""

    def __init__(self, file):
        self._file = open(file, "r+b") if isinstance(file, str) else file
        self.size = self._file.seek(0, 2)
        self._powered = True
        self._until_cut = 0  # operations; 0: no cut to come
        self._until_brownout = -1  # bytes; -1: none to come
        self.read_only = False  # nothing takes, and nothing says so
        self.slow = 0  # times the time that a real chip takes
        self.bytes_read = 0
        self.bytes_programmed = 0
        self.programs = 0
        self.erases = 0

    def cut_power(self, operation, how, seed=0, start=0, end=None, die=None):
        """Fail at the `operation`-th program or erase from now on, from 1, that is at start <= address < end.

        `how`: "before" it, "torn" (the seed says which part of it is done), or "after" it. Then `die()` is
        called, or PowerCut raised; this object reads and writes nothing any more.
        """
        if operation < 1 or how not in ("before", "torn", "after"):
            raise ValueError("cut_power")
        self._until_cut = operation
        self._how, self._seed, self._die = how, seed, die
        self._start, self._end = start, self.size if end is None else end

    def brown_out(self, after, die):
        """Call `die()` when so many bytes more have been programmed; the page in which that is is torn."""
        self._until_brownout, self._die, self._seed = after, die, after

    def read(self, offset, buf):
        self._within(offset, len(buf))
        self._file.seek(offset)
        self._file.readinto(buf)
        self.bytes_read += len(buf)

    def program(self, offset, buf):
        self._within(offset, len(buf))
        view = memoryview(buf)
        at = 0
        while at < len(buf):
            length = min(len(buf) - at, _PAGE - (offset + at) % _PAGE)
            new = bytes(view[at : at + length])
            self._file.seek(offset + at)
            old = self._file.read(length)
            wanted = int.from_bytes(new, "little")
            if wanted & int.from_bytes(old, "little") != wanted and not self.read_only:
                raise FlashViolation("flash: programming 0x%x would set bits; erase first" % (offset + at))
            if self._is_cut_at(offset + at):
                self._cut(offset + at, old, new, torn_program)
            if 0 <= self._until_brownout < length:
                self._how = "torn"
                self._cut(offset + at, old, new, torn_program)
            if self._until_brownout > 0:
                self._until_brownout -= length
            self._put(offset + at, new)
            self._take(_PROGRAM_US)
            self.programs += 1
            self.bytes_programmed += length
            at += length

    def erase(self, offset, length=SECTOR):
        self._within(offset, length)
        if offset % SECTOR or length % SECTOR:
            raise OSError(22)  # EINVAL, as esp_flash_erase_region
        blank = b"\xff" * SECTOR
        for at in range(offset, offset + length, SECTOR):
            if self._is_cut_at(at):
                self._file.seek(at)
                self._cut(at, self._file.read(SECTOR), blank, torn_erase)
            self._put(at, blank)
            self._take(_ERASE_US)
            self.erases += 1

    def _is_cut_at(self, offset):
        if not self._until_cut or not self._start <= offset < self._end:
            return False
        self._until_cut -= 1
        return not self._until_cut

    def _cut(self, offset, old, new, tear):
        if self._how == "torn":
            new = tear(old, new, Dice(self._seed))
        self._put(offset, old if self._how == "before" else new)
        self._powered = False
        if self._die:
            self._die()
        raise PowerCut

    def _put(self, offset, data):
        if self.read_only:
            return
        self._file.seek(offset)
        self._file.write(data)

    def _take(self, microseconds):
        if self.slow:
            time.sleep_us(int(microseconds * self.slow))

    def _within(self, offset, length):
        if not self._powered:
            raise PowerCut
        if offset < 0 or offset + length > self.size:
            raise OSError(22)


class Dice:
    """Chance that is the same for the same seed (Marsaglia's xorshift, 32 bits), and nobody else's."""

    def __init__(self, seed):
        self._state = (seed * 2654435761 + 0x9E3779B9) & 0xFFFFFFFF or 1

    def below(self, limit):
        x = self._state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self._state = x
        return (x >> 8) % limit


def torn_program(old, new, dice):
    """What is there when the power fails on the way from `old` to `new`: any part of the change.

    One of four: a beginning is done; an end is done; whole bytes here and there; single bits here and there.
    """
    form = dice.below(4)
    edge = dice.below(len(old))
    odds = 1 + dice.below(7)  # of 8
    result = bytearray(old)
    for i in range(len(old)):
        if i == edge and form < 2:
            done = dice.below(256)
        elif form == 0:
            done = 0xFF if i < edge else 0
        elif form == 1:
            done = 0xFF if i > edge else 0
        elif form == 2:
            done = 0xFF if dice.below(8) < odds else 0
        else:
            done = 0
            for bit in range(8):
                if dice.below(8) < odds:
                    done |= 1 << bit
        result[i] = old[i] & ~done | new[i] & done
    return result


def torn_erase(old, new, dice):
    """The same of an erase. A chip clears all bits before it sets them; the power may fail in either."""
    moment = dice.below(3)
    zeros = bytes(len(old))
    if moment == 0:
        return torn_program(old, zeros, dice)
    return torn_program(old if moment == 1 else zeros, new, dice)
