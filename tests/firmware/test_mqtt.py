"""The session without TLS: its parser and short writes; tests/host/test_session_*.py has it on the wire."""

import gc
import random
import struct
import time

from limpet.mqtt import CLOSED, UP, Session

GREETING = 2  # a state before UP, which the module keeps to itself
CONNACK, PINGRESP = 0x200003, 0xD00001  # what the session may wait for, likewise


class Wire:
    """A socket: gives `pieces` one at a time, None before each and at the end; takes what is written, in
    `takes`, the rest at once."""

    def __init__(self, pieces=(), takes=()):
        self.pieces = [bytes(piece) for piece in pieces if piece]
        self.takes = list(takes)
        self.taken = b""
        self.closed = 0
        self._pause = False

    def readinto(self, buf):
        self._pause = not self._pause
        if self._pause or not self.pieces:
            return None
        piece = self.pieces.pop(0)
        count = min(len(buf), len(piece))
        assert count, "the receive buffer is full, and nothing was said"
        buf[:count] = piece[:count]
        if count < len(piece):
            self.pieces.insert(0, piece[count:])
        return count

    def write(self, data):
        count = self.takes.pop(0) if self.takes else len(data)
        if count is None:
            return None
        self.taken += bytes(data[:count])
        return min(count, len(data))

    def close(self):
        self.closed += 1


def session(pieces=(), takes=(), state=UP, keepalive=30):
    """A session as if it were connected."""
    s = Session("n01", keepalive, None)
    s.close()
    s.present = True
    s.state = state
    s._wants = CONNACK if state == GREETING else 0
    s._due = time.ticks_add(time.ticks_ms(), 1000000)
    s.sock = s._raw = Wire(pieces, takes)
    s.acked = []
    s.on_ack = s.acked.append
    s.seen = []
    s.on_message = lambda topic, payload: s.seen.append((bytes(topic), bytes(payload)))
    return s


def drain(s):
    """Step until all has been read, or the session has ended; it must be one of the two."""
    wire = s.sock
    idle = 0
    while s.state != CLOSED and idle < 3:
        idle = idle + 1 if not wire.pieces else 0
        s.step()
    return s


def publish(topic, payload, pid=None, flags=0):
    body = struct.pack(">H", len(topic)) + topic + (b"" if pid is None else struct.pack(">H", pid)) + payload
    return bytes([0x30 | flags | (0 if pid is None else 2)]) + length(len(body)) + body


def length(n):
    coded = b""
    while n > 0x7F:
        coded += bytes([n & 0x7F | 0x80])
        n >>= 7
    return coded + bytes([n])


def test_every_split_of_a_stream_gives_the_same():
    stream = b"\x40\x02\x00\x01\xd0\x00\x30\x05\x00\x01tHi\x40\x82\x00\x12\x34"
    stream += b"\x32\x05\x00\x01u\x00\x07\x40\x02\xff\xff"
    for cut in range(1, len(stream)):
        for second in range(cut, len(stream)):
            s = session((stream[:cut], stream[cut:second], stream[second:]))
            wire = s.sock
            s._wants = PINGRESP
            drain(s)
            assert s.acked == [1, 0x1234, 0xFFFF]
            assert s.seen == [(b"t", b"Hi"), (b"u", b"")]
            assert wire.taken == b"\x40\x02\x00\x07"
            assert s._wants == 0 and s._at == s._have


def test_every_length_around_the_buffers_is_taken_or_skipped():
    for size in list(range(236, 262)) + [16381, 16382, 16383, 16384, 65528, 65532]:
        for pid in (None, 3):
            packet = publish(b"t", bytes(size), pid)
            if len(packet) > 65535 + 4:
                continue
            s = session((packet, b"\x40\x02\x00\x05"))
            wire = s.sock
            drain(s)
            taken = len(packet) <= 256
            assert s.acked == [5], size
            assert len(s.seen) == taken and s.dropped == (not taken)
            assert wire.taken == (b"" if pid is None else b"\x40\x02\x00\x03")
    s = drain(session((publish(b"t", bytes(65533)),)))
    assert (s.state, s.malformed, s.error) == (CLOSED, 1, "packet 30")


def test_nothing_but_a_connack_is_taken_for_a_greeting():
    for packet in (
        b"\x40\x02\x00\x01",
        b"\x20\x03\x00\x00\x00",
        b"\x30\x03\x00\x01t",
        b"\xd0\x00",
        b"\x90\x03\x00\x01\x00",
        b"\x21\x02\x00\x00",
        b"\x00\x00",
    ):
        s = drain(session((packet,), state=GREETING))
        assert (s.state, s.malformed, s.error) == (CLOSED, 1, "packet %x" % packet[0])
    for code in range(1, 256):
        s = drain(session((bytes([0x20, 2, 0, code]),), state=GREETING))
        assert (s.state, s.malformed, s.error) == (CLOSED, code > 5, "refused %d" % code)
    for flags in range(256):
        s = drain(session((bytes([0x20, 2, flags]), b"\x00"), state=GREETING))
        assert s.state == (UP if flags < 2 else CLOSED)
        assert s.present == (flags == 1) or flags > 1


def model(stream):
    """What must come of a stream, by a parser that has all of it: (acked, messages, our PUBACKs, dropped,
    malformed)."""
    acked, seen, answers = [], [], b""
    dropped = at = 0
    while True:
        # The header: up to four bytes of length, of which we take three.
        size = shift = 0
        i = at + 1
        if i < len(stream) < at + 5 and stream[i] > 0x7F:  # the parser takes them together
            return acked, seen, answers, dropped, False
        while True:
            if i >= len(stream):
                return acked, seen, answers, dropped, False
            byte = stream[i]
            i += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift == 21:
                return acked, seen, answers, dropped, True
        first = stream[at]
        if size > 0xFFFF:
            return acked, seen, answers, dropped, True
        body = stream[i : i + size]
        whole = len(body) == size
        if first & 0xF0 == 0x30 and first & 6 in (0, 2) and size > 2:
            if len(body) < 2:
                return acked, seen, answers, dropped, False
            start = 2 + (body[0] << 8 | body[1])
            payload = start + (first & 2)
            if start == 2 or payload > size:
                return acked, seen, answers, dropped, True
            if i - at + size > 256:
                dropped += 1
                if first & 2 and len(body) >= payload and body[start:payload] != b"\x00\x00":
                    answers += b"\x40\x02" + body[start:payload]
            elif whole:
                seen.append((body[2:start], body[payload:]))
                if first & 2 and body[start:payload] != b"\x00\x00":
                    answers += b"\x40\x02" + body[start:payload]
        elif first == 0x40 and size == 2:
            if whole and body != b"\x00\x00":
                acked.append(body[0] << 8 | body[1])
        else:
            return acked, seen, answers, dropped, True
        if not whole:
            return acked, seen, answers, dropped, False
        at = i + size


def random_packet():
    """Valid, mostly; else wrong in one of many ways."""
    kind = random.randint(0, 19)
    topic = bytes([0x61 + random.getrandbits(3)]) * random.choice((1, 1, 5, 40, 200, 300, 700))
    payload = bytes([random.getrandbits(8) for _ in range(random.choice((0, 1, 10, 50, 200)))])
    payload *= random.choice((1, 1, 1, 10))
    pid = random.choice((None, random.getrandbits(16)))
    if kind < 8:
        return b"\x40\x02" + struct.pack(">H", random.getrandbits(16))
    if kind < 16:
        return publish(topic, payload, pid, random.choice((0, 1, 8, 9)))
    if kind == 16:  # another type, or reserved flags
        return bytes([random.getrandbits(8)]) + length(len(payload)) + payload
    if kind == 17:  # a length that is not true
        packet = bytearray(publish(topic, payload, pid))
        packet[1] ^= 1 << random.getrandbits(3)
        return bytes(packet)
    if kind == 18:  # a topic that is not as long as it says
        packet = bytearray(publish(b"t", payload[:90], pid))
        packet[2 + random.getrandbits(1)] ^= 1 << random.getrandbits(3)
        return bytes(packet)
    return bytes([random.getrandbits(8) for _ in range(random.randint(1, 20))])


def test_random_streams_end_as_a_parser_that_has_all_of_them_says():
    random.seed(20261122)
    ended = lived = skipped = 0
    for _ in range(5000):
        stream = b"".join(random_packet() for _ in range(random.randint(1, 12)))
        stream = stream[: random.randint(1, len(stream))]
        pieces = []
        at = 0
        while at < len(stream):
            size = random.choice((1, 2, 3, 10, 100, 256, 257, 1000))
            pieces.append(stream[at : at + size])
            at += size
        takes = [random.choice((None, 1, 2, 3, None, 4)) for _ in range(random.getrandbits(3))]
        s = session(pieces, takes)
        wire = s.sock
        drain(s)
        for _ in range(10):  # what it takes to write the last PUBACKs
            s.step()
        acked, seen, answers, dropped, malformed = model(stream)
        case = (stream, [len(piece) for piece in pieces])
        assert s.acked == acked, case
        assert s.seen == seen, case
        assert s.dropped == dropped, case
        assert s.malformed == malformed, case
        assert s.state == (CLOSED if malformed else UP), case
        # When it ends, the last PUBACKs may not have been sent yet.
        assert wire.taken == answers or (malformed and answers.startswith(wire.taken)), (
            case,
            wire.taken,
            answers,
        )
        assert wire.closed == 2 * malformed
        assert len(s._rx) == 256 and 0 <= s._at <= s._have <= 256
        ended += malformed
        lived += not malformed
        skipped += dropped
    assert ended > 1000 and lived > 1000 and skipped > 1000, (ended, lived, skipped)


def test_pure_noise_ends_it_and_nothing_else():
    random.seed(2026)
    ended = 0
    for i in range(2000):
        noise = bytes([random.getrandbits(8) for _ in range(random.randint(1, 400))])
        s = session((noise,), state=UP if i % 4 else GREETING)
        drain(s)
        assert s.state in (UP, CLOSED, GREETING)
        assert 0 <= s._at <= s._have <= 256
        ended += s.state == CLOSED
    assert ended > 1800


def test_steps_leave_no_heap_behind_and_an_idle_one_takes_none():
    s = session()
    data = b"\x40\x02\x00\x01" * 64
    s.on_ack = lambda pid: None
    s.on_message = None
    pieces = s.sock.pieces

    def feed(*packets):
        pieces.extend(packets)
        drain(s)

    feed(data, publish(b"t", b"x" * 100, 1), publish(b"t", b"x" * 1000, 1))
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(100):
        feed(data, publish(b"t", b"x" * 100, 1), publish(b"t", b"x" * 1000, 1))
        s.sock.taken = b""
    gc.collect()
    assert gc.mem_alloc() - before < 64

    class Silent:
        def readinto(self, buf):
            return None

        def close(self):
            pass

    s.sock = s._raw = Silent()
    s.step()
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(100):
        s.step()
    took = gc.mem_alloc() - before
    gc.enable()
    assert took == 0, took


def test_begin_waits_until_the_session_is_up():
    for state in (CLOSED, 1, GREETING):
        s = session(state=state)
        assert s.begin(b"t", 1) is None
        assert s.publish(b"t", b"x", qos=1) is None
        assert s.pid == 0


def test_before_the_first_connect_nothing_does_any_harm():
    s = Session("n01", 30, None)
    s.step()
    assert s.flush() is False
    assert s.begin(b"t", 1) is None
    s.ping()
    s.close()
    s.close(True)
    assert (s.state, s.error, s.malformed, s.dropped) == (CLOSED, None, 0, 0)


def test_short_writes_lose_nothing_and_the_next_packet_waits():
    s = session(takes=(7, None, None, 1, 3, None, 200, None))
    wire = s.sock
    message = bytes(range(250))
    assert s.publish(b"topic", message, qos=1) == 1
    expected = b"\x32\x83\x02\x00\x05topic\x00\x01" + message
    waited = 0
    while s.begin(b"topic", 1) is None:
        assert expected.startswith(wire.taken) and wire.taken != expected
        waited += 1
    assert (wire.taken, waited) == (expected, 3)
    assert s.pid == 2


def test_ids_wrap_and_those_that_are_given_do_not_count():
    s = session()
    s.pid = 65533
    ids = []
    for given in (0, 7, 0, 0, 65535, 0):
        _, at = s.begin(b"t", 1, given)
        ids.append(s.commit(at, False, given > 0))
    assert ids == [65534, 7, 65535, 1, 65535, 2]
    assert s.publish(b"t", b"", qos=0) == 0
    headers = bytes([s.sock.taken[i] for i in range(0, 6 * 7, 7)])
    assert headers == b"\x32\x3a\x32\x32\x3a\x32"


def test_a_long_packet_makes_the_buffer_grow_and_stays_whole():
    s = session()
    buf, at = s.begin(b"t", 0)
    for _ in range(300):
        buf[at : at + 10] = b"0123456789"
        at += 10
    s.commit(at, True)
    assert s.sock.taken == b"\x31\xbb\x17\x00\x01t" + b"0123456789" * 300


def test_disconnect_is_said_when_there_is_room_and_close_never_waits():
    for takes, said in (((), b"\xe0\x00"), ((None,), b""), ((1, None), b"\xe0")):
        s = session(takes=takes)
        wire = s.sock
        s.close(True)
        assert (wire.taken, wire.closed, s.state, s.error) == (said, 2, CLOSED, None)
    s = session(takes=(3, None, None))
    wire = s.sock
    s.publish(b"t", b"x")
    s.close(True)
    assert (wire.taken, s.state) == (b"\x30\x04\x00", CLOSED)
    s = session()
    wire = s.sock
    s.close()
    assert (wire.taken, wire.closed) == (b"", 2)


class Broken(Wire):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def readinto(self, buf):
        raise self.error

    write = readinto


def test_an_error_of_the_socket_comes_out_nowhere_but_as_text():
    def publishes(s):
        assert s.publish(b"t", b"x", qos=1) == 1

    for error, text in (
        (OSError(104), "[Errno 104] ECONNRESET"),
        (MemoryError("memory allocation failed"), "memory allocation failed"),
        (OSError(-0x7200, "MBEDTLS_ERR"), "(-29184, 'MBEDTLS_ERR')"),
        (ValueError("x"), "x"),
    ):
        for act in (Session.step, publishes, Session.ping, lambda s: s.close(True)):
            s = session()
            s.sock = s._raw = wire = Broken(error)
            act(s)
            assert (s.state, s.malformed, wire.closed) == (CLOSED, 0, 2)
            assert s.error == text or (s.error is None and act not in (Session.step, publishes, Session.ping))
            assert s.flush() is False and s.begin(b"t", 0) is None
            s.step()


def test_what_is_no_exception_of_ours_passes():
    class PowerCut(BaseException):
        pass

    s = session()
    s.sock = s._raw = Broken(PowerCut())
    for act in (s.step, lambda: s.publish(b"t", b"")):
        try:
            act()
        except PowerCut:
            continue
        raise AssertionError("swallowed")
