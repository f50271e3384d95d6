"""Readings as SenML JSON (RFC 8428): docs/wire.md has the profile, tests/vectors/senml.json examples."""

from micropython import const

from limpet.reading import text as reason_text

_GROUPS = const(32)  # in a pack
_QUALITIES = const("synced,holdover,recovered,unknown")
_UNKNOWN = const(3)

# A group is a list: what the next record of its channel must know.
_NAME = const(0)
_UNIT = const(1)
_END = const(2)  # of its text in the buffer
_SEQ = const(3)  # of its last record
_STEP = const(4)  # that a receiver takes for the next record, if this does not say otherwise


def fixed(value, decimals):
    """The integer `value` as text with `decimals` decimals: (-5, 2) is "-0.05"."""
    if not decimals:
        return str(value)
    scale = 10**decimals
    size = abs(value)
    return "%s%d.%0*d" % ("-" if value < 0 else "", size // scale, decimals, size % scale)


def seconds(ms):
    """Milliseconds as seconds, with no more decimals than that takes: 1250 is "1.25"."""
    decimals = 3
    while decimals and not ms % 10:
        ms //= 10
        decimals -= 1
    return fixed(ms, decimals)


class Pack:
    """Writes SenML packs of at most `limit` bytes, one after the other: begin(), then add() until it says no,
    then close(). `count` is the number of readings in the pack.

    Records are grouped by channel, so that a channel's name and unit are there only once. A reading goes to
    the end of its group; what stands behind it in the buffer moves up.
    """

    def __init__(self, limit):
        self._limit = limit
        self._groups = []  # in the order of the text; those from `_used` on are left over, to be used again
        self.count = 0

    def begin(self, buf, at, node, epoch):
        """Start a pack in `buf` at index `at`. Until it is closed nobody may resize the buffer."""
        self._buf = memoryview(buf)
        self._end = at
        self._stop = min(at + self._limit, len(buf)) - 1  # a byte stays for the closing bracket
        self._node = node
        self._epoch = epoch
        self._used = self.count = 0

    def add(self, seq, unix_ms, name, unit, decimals, reason, value, quality=0, later_s=0):
        """One reading, with a higher sequence number than the one before. `quality` says how its time came
        about (0 synced, 1 holdover, 2 recovered, 3 unknown), `later_s` by how much an unknown one may be
        later (None: no bound). False when it does not fit any more: the pack stays as it was."""
        groups = self._groups
        used = self._used
        i = 0
        while i < used and (groups[i][_NAME] != name or groups[i][_UNIT] != unit):
            i += 1
        if not self.count:
            self._base = unix_ms
        start = end = self._end
        step = 1
        if i < used:
            group = groups[i]
            start = group[_END]
            step = seq - group[_SEQ]
            head = ",{" if step == group[_STEP] else ',{"step":%d,' % step
        elif i < _GROUPS:
            head = '%s{"bn":"%s/%s",' % ("," if i else "[", self._node, name)
            if not i:
                head += '"bt":%s,"epoch":"%s",' % (seconds(unix_ms), self._epoch)
            if not i or unit != groups[i - 1][_UNIT]:
                head += '"bu":"%s",' % unit
            head += '"seq":%d,' % seq
        else:
            return False
        if unix_ms != self._base:
            head += '"t":%s,' % seconds(unix_ms - self._base)
        if quality:
            head += '"tq":"%s",' % _QUALITIES.split(",")[quality]
            if quality == _UNKNOWN and later_s is not None:
                head += '"tu":%d,' % later_s
        if reason:
            text = b'%s"vs":"%s","q":"bad"}' % (head, reason_text(reason))  # type: ignore[str-format]
        else:
            text = b'%s"v":%s}' % (head, fixed(value, decimals))  # type: ignore[str-format]
        size = len(text)
        if end + size > self._stop:
            return False
        if start < end:
            # Source and destination overlap: MicroPython moves them as memmove() does.
            self._buf[start + size : end + size] = self._buf[start:end]
        self._buf[start : start + size] = text
        self._end = end + size
        self.count += 1
        if i == used:
            self._used += 1
            if i == len(groups):
                groups.append([])
            groups[i][:] = name, unit, end, 0, 0
        groups[i][_SEQ] = seq
        groups[i][_STEP] = step
        while i < self._used:
            groups[i][_END] += size
            i += 1
        return True

    def close(self):
        """End the pack; the index behind its last byte."""
        self._buf[self._end] = 0x5D
        return self._end + 1
