"""The board's NOR flash: a file, with the two rules that a flash chip has.

Erase sets a 4 KiB sector to ones. Programming only clears bits: asking it to set one is what loses data
on a chip without a word, so here it is an error.
"""

SECTOR = 4096
_CHUNK = 256


class FlashViolation(OSError):
    """The firmware tried to set a bit from 0 to 1 by programming."""


class Flash:
    def __init__(self, path):
        self._file = open(path, "r+b")
        self.size = self._file.seek(0, 2)

    def read(self, offset, buf):
        self._within(offset, len(buf))
        self._file.seek(offset)
        self._file.readinto(buf)

    def program(self, offset, buf):
        self._within(offset, len(buf))
        view = memoryview(buf)
        for start in range(0, len(buf), _CHUNK):
            part = bytes(view[start : start + _CHUNK])
            self._file.seek(offset + start)
            old = int.from_bytes(self._file.read(len(part)), "little")
            new = int.from_bytes(part, "little")
            if new & old != new:
                raise FlashViolation("flash: programming 0x%x would set bits; erase first" % (offset + start))
            self._file.seek(offset + start)
            self._file.write(part)

    def erase(self, offset, length=SECTOR):
        self._within(offset, length)
        if offset % SECTOR or length % SECTOR:
            raise OSError(22)  # EINVAL, as esp_flash_erase_region
        self._file.seek(offset)
        for _ in range(length // SECTOR):
            self._file.write(b"\xff" * SECTOR)

    def _within(self, offset, length):
        if offset < 0 or offset + length > self.size:
            raise OSError(22)
