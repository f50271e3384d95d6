"""Readings as SenML JSON (RFC 8428): docs/wire.md has the profile, tests/vectors/senml.json examples."""

from limpet.reading import text as reason_text


def fixed(value, decimals):
    """The integer `value` as text with `decimals` decimals: (-5, 2) is "-0.05"."""
    if not decimals:
        return str(value)
    scale = 10**decimals
    size = abs(value)
    return "%s%d.%0*d" % ("-" if value < 0 else "", size // scale, decimals, size % scale)


def seconds(ms):
    """Milliseconds as seconds with three decimals."""
    return fixed(ms, 3)


class Pack:
    """Writes one SenML pack into `buf` from `start` on: add() until it says no, then close().

    `seq` is the number of the first reading; each add() takes the next. `base_ms` (unix) is the pack's `bt`.
    """

    def __init__(self, buf, start, node, epoch, seq, base_ms):
        self._buf = buf
        self._at = start
        self._base = base_ms
        self._head = '[{"bn":"%s/","bt":%s,"epoch":"%s","seq":%d,' % (node, seconds(base_ms), epoch, seq)

    def add(self, unix_ms, name, unit, decimals, reason, value):
        """One reading. False when it does not fit any more: the pack stays as it was."""
        text = '%s"n":"%s","u":"%s",' % (self._head, name, unit)
        if unix_ms != self._base:
            text += '"t":%s,' % seconds(unix_ms - self._base)
        if reason:
            text += '"vs":"%s","q":"bad"}' % reason_text(reason)
        else:
            text += '"v":%s}' % fixed(value, decimals)
        end = self._at + len(text)
        if end >= len(self._buf):  # one byte stays for the closing bracket
            return False
        self._buf[self._at : end] = text.encode()
        self._at = end
        self._head = ",{"
        return True

    def close(self):
        """End the pack; the index behind its last byte."""
        self._buf[self._at] = 0x5D
        return self._at + 1
