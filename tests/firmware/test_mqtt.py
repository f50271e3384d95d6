"""The packet parser alone; tests/host/test_session_*.py has the session on the wire."""

import gc
import random

from limpet.mqtt import UP, MQTTException, Session

# The states before UP, which the module keeps to itself.
_CLOSED, _CONNECTING, _GREETING = 0, 1, 2


def session(state=UP):
    s = Session("n01", "127.0.0.1", 8883, "broker", 30, None)
    s.state = state
    return s


def feed(s, data):
    """Give `data` to the parser as the socket would: as much as there is room for."""
    while data:
        count = min(len(data), len(s._rx) - s._rx_len)
        assert count, "the receive buffer is full, and nothing was said"
        s._rx[s._rx_len : s._rx_len + count] = data[:count]
        s._rx_len += count
        data = data[count:]
        s._parse()


def raises(s, data):
    try:
        feed(s, data)
    except MQTTException as e:
        return str(e)
    raise AssertionError("taken: %r" % data)


def test_every_split_of_a_stream_gives_the_same_acknowledgements():
    stream = b"\x40\x02\x00\x01\xd0\x00\x30\x05\x00\x01tHi\x40\x82\x00\x12\x34\x40\x02\xff\xff"
    for cut in range(1, len(stream)):
        for second in range(cut, len(stream)):
            s = session()
            s._pinged = True
            acked = []
            s.on_ack = acked.append
            for part in (stream[:cut], stream[cut:second], stream[second:]):
                feed(s, part)
            assert acked == [1, 0x1234, 0xFFFF]
            assert (s._pinged, s._rx_len) == (False, 0)


def test_the_largest_packet_fits_and_one_byte_more_does_not():
    for length in (251, 252, 253):
        s = session()
        acked = []
        s.on_ack = acked.append
        feed(s, bytes([0x30, length & 0x7F | 0x80, length >> 7]) + bytes(length) + b"\x40\x02\x00\x05")
        assert acked == [5]
    assert raises(session(), b"\x30\xfe\x01") == "packet too large"


def test_nothing_but_a_connack_is_taken_for_a_greeting():
    for packet in (
        b"\x40\x02\x00\x01",
        b"\x20\x03\x00\x00\x00",
        b"\x30\x02\x00\x00",
        b"\xd0\x00",
        b"\x21\x02\x00\x00",
    ):
        assert raises(session(_GREETING), packet) == "no CONNACK"
    for code in range(1, 256):
        assert raises(session(_GREETING), bytes([0x20, 2, 0, code])) == "refused, code %d" % code
    s = session(_GREETING)
    feed(s, b"\x20\x02\x01")
    assert s.state == _GREETING
    feed(s, b"\x00")
    assert s.state == UP


def test_two_thousand_random_streams_raise_nothing_else_and_stay_bounded():
    random.seed(2026)
    ended = 0
    for i in range(2000):
        s = session(UP if i % 4 else _GREETING)
        acked = []
        s.on_ack = acked.append
        data = bytearray(random.getrandbits(8) for _ in range(random.randint(1, 700)))
        if i % 2:  # valid beginnings lead further in
            data[:0] = b"\x20\x02\x00\x00" if s.state == _GREETING else b"\x40\x02\x00\x01"
            data[8:8] = b"\x31\x90\x01" + bytes(144)
        try:
            feed(s, data)
        except MQTTException:
            ended += 1
        assert len(s._rx) == 256 and 0 <= s._rx_len <= 256
        assert len(acked) < 200
    assert ended > 1900


def test_parsing_leaves_no_heap_behind():
    s = session()
    s.on_ack = lambda pid: None
    data = b"\x40\x02\x00\x01" * 60
    feed(s, data)
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(200):
        feed(s, data)
    gc.collect()
    assert gc.mem_alloc() - before < 64


def test_begin_waits_until_the_session_is_up():
    for state in (_CLOSED, _CONNECTING, _GREETING):
        s = session(state)
        assert s.begin(b"t", 1) is None
        assert s.publish(b"t", b"x", qos=1) is None
        assert s.pid == 0


def test_close_before_connect_and_twice_is_fine():
    s = session()
    s.close()
    s.close()
    assert s.state == _CLOSED


class Narrow:
    """A socket that takes a few bytes, then none, and so on."""

    def __init__(self, *takes):
        self.taken = b""
        self._takes = list(takes)

    def write(self, data):
        count = self._takes.pop(0) if self._takes else len(data)
        if count is None:
            return None
        self.taken += bytes(data[:count])
        return min(count, len(data))


def test_short_writes_lose_nothing_and_the_next_packet_waits():
    s = session()
    s.sock = Narrow(7, None, None, 1, 3, None, 200, None)
    message = bytes(range(250))
    assert s.publish(b"topic", message, qos=1) == 1
    expected = b"\x32\x83\x02\x00\x05topic\x00\x01" + message
    waited = 0
    while s.begin(b"topic", 1) is None:
        assert expected.startswith(s.sock.taken) and s.sock.taken != expected
        waited += 1
    assert (s.sock.taken, waited) == (expected, 3)
    assert s.pid == 2


def test_a_long_packet_makes_the_buffer_grow_and_stays_whole():
    s = session()
    s.sock = Narrow()
    buf, at = s.begin(b"t", 0)
    for _ in range(300):
        buf[at : at + 10] = b"0123456789"
        at += 10
    s.commit(at, True)
    assert s.sock.taken == b"\x31\xbb\x17\x00\x01t" + b"0123456789" * 300
