import struct

import usocket
import utime
from limpet import clock as module
from limpet.clock import Clock, parse_answer

NTP_TO_UNIX = 2208988800
NOW = 1795000000  # 2026-11-18, in unix time
COOKIE = b"12345678"


class Time:
    """A stand-in for `time` as on the ESP32: ticks wrap at 2^30, the epoch is 2000 or 1970."""

    PERIOD = 1 << 30

    def __init__(self, ticks=0, seconds=0, epoch=946684800):
        self.ticks = ticks
        self.seconds = seconds  # unix
        self.epoch = epoch

    def ticks_ms(self):
        return self.ticks % self.PERIOD

    def ticks_diff(self, a, b):
        return (a - b + self.PERIOD // 2) % self.PERIOD - self.PERIOD // 2

    def time(self):
        return self.seconds - self.epoch

    def gmtime(self, seconds):
        assert -(1 << 31) <= seconds < 1 << 31, "OverflowError on a port with 32 bits"
        # utime's epoch is 1970 whatever the port's is here
        return utime.gmtime(seconds + self.epoch)


class Machine:
    """A stand-in for `machine` that keeps what the RTC was set to."""

    def __init__(self):
        self.fields = None

    def RTC(self):
        return self

    def datetime(self, fields):
        self.fields = fields


class Node:
    """A clock on stand-ins for the chip, with the real network of this machine."""

    def __init__(self, time):
        self.time = time
        self.machine = Machine()
        self.said = []
        self._saved = {
            name: getattr(module, name) for name in ("time", "machine", "socket", "log", "_PORT_EPOCH")
        }
        module.time, module.machine, module.socket = time, self.machine, usocket
        module.log = lambda who, what: self.said.append(what)
        module._PORT_EPOCH = time.epoch
        self.clock = Clock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name, value in self._saved.items():
            setattr(module, name, value)


class Server:
    """A time server on loopback. `answers` gets the question and gives the datagrams to send."""

    def __init__(self, answers):
        self._answers = answers
        self._socket = usocket.socket(usocket.AF_INET, usocket.SOCK_DGRAM)
        self.asked = 0
        for port in range(20000 + utime.ticks_us() % 20000, 65000):
            try:
                self._socket.bind(usocket.getaddrinfo("127.0.0.1", port)[0][-1])
                break
            except OSError:
                pass
        self._socket.setblocking(False)
        self.spec = {"host": "127.0.0.1", "port": port}

    def serve(self):
        try:
            question, peer = self._socket.recvfrom(100)
        except OSError:
            return
        self.asked += 1
        for answer in self._answers(question):
            self._socket.sendto(answer, peer)

    def close(self):
        self._socket.close()


def answer(cookie=COOKIE, seconds=NOW + NTP_TO_UNIX, fraction=0, first=0x24, stratum=2):
    head = struct.pack(">BB", first, stratum) + bytes(22)
    return head + cookie + bytes(8) + struct.pack(">II", seconds & 0xFFFFFFFF, fraction)


def right(question, **changes):
    return answer(question[40:48], **changes)


def sync(node, servers, step_ms=1):
    """Run a synchronisation; the node's time goes on by `step_ms` for each millisecond it waits."""
    for pause in node.clock.sync([s.spec for s in servers]):
        assert pause > 0
        node.time.ticks += step_ms
        for s in servers:
            s.serve()
        utime.sleep_ms(1)
    for s in servers:
        s.close()


def refused(data, cookie=COOKIE):
    try:
        parse_answer(data, cookie)
    except ValueError as e:
        return str(e)
    raise AssertionError("believed")


def test_a_good_answer_is_read_to_the_millisecond():
    assert parse_answer(answer(), COOKIE) == NOW * 1000
    assert parse_answer(answer(fraction=0x80000000), COOKIE) == NOW * 1000 + 500
    assert parse_answer(answer(fraction=0xFFFFFFFF), COOKIE) == NOW * 1000 + 999
    assert parse_answer(answer() + bytes(20), COOKIE) == NOW * 1000  # an authenticator behind it


def test_leap_indicators_that_announce_are_no_alarm():
    for first in (0x24, 0x64, 0xA4, 0x1C):
        assert parse_answer(answer(first=first), COOKIE) == NOW * 1000


def test_answers_to_another_question_are_refused():
    assert refused(answer(b"87654321")) == "not an answer to our question"
    assert refused(answer(b"12345679")) == "not an answer to our question"
    for size in (0, 1, 24, 40, 47):
        assert refused(answer()[:size]) == "not an answer to our question"


def test_servers_that_are_not_synchronised_are_refused():
    for first in (0xE4, 0xDC, 0x23, 0x25, 0x20, 0x26):  # alarm; mode client, broadcast, …
        assert refused(answer(first=first)) == "server is not synchronised"
    for stratum in (0, 16, 255):
        assert refused(answer(stratum=stratum)) == "server is not synchronised"
    for stratum in (1, 15):
        assert parse_answer(answer(stratum=stratum), COOKIE)


def test_2036_is_the_next_era_and_not_1900():
    rollover = (1 << 32) - NTP_TO_UNIX  # 2036-02-07 06:28:16
    assert parse_answer(answer(seconds=0xFFFFFFFF), COOKIE) == (rollover - 1) * 1000
    assert parse_answer(answer(seconds=1), COOKIE) == (rollover + 1) * 1000


def test_times_that_cannot_be_are_refused():
    assert refused(answer(seconds=1735689599 + NTP_TO_UNIX)) == "server is in another age"
    assert parse_answer(answer(seconds=1735689600 + NTP_TO_UNIX), COOKIE)
    # 2068 is the end of 32 bits since 2000: an ESP32 could not count on.
    assert parse_answer(answer(seconds=3094168447 + NTP_TO_UNIX), COOKIE) == 3094168447000
    assert refused(answer(seconds=3094168448 + NTP_TO_UNIX)) == "server is in another age"
    assert refused(answer(seconds=0x80000000)) == "server is in another age"  # 1968


def test_an_unset_chip_knows_no_time_and_a_set_one_holds_over():
    for epoch in (946684800, 0):
        with Node(Time(seconds=946684800 + 30, epoch=epoch)) as node:
            assert node.clock.trust == "unknown"
        with Node(Time(seconds=NOW, epoch=epoch)) as node:
            assert node.clock.trust == "holdover"
            assert abs(node.clock.unix_ms(0) - NOW * 1000) <= 500


def test_uptime_goes_on_over_the_wrap_of_ticks():
    with Node(Time(ticks=(1 << 30) - 700)) as node:
        before = node.clock.uptime_ms()
        assert before == 0
        for day in range(1, 40):
            node.time.ticks += 86400000
            assert node.clock.uptime_ms() == day * 86400000


def test_synchronisation_sets_clock_and_rtc():
    for epoch in (946684800, 0):
        with Node(Time(ticks=5000, epoch=epoch)) as node:
            sync(node, [Server(lambda q: [right(q, fraction=0x40000000)])])
            assert node.clock.trust == "synced"
            now = node.clock.unix_ms(node.clock.uptime_ms())
            assert NOW * 1000 + 250 <= now <= NOW * 1000 + 250 + 500  # half of at most a second
            year, month, day, weekday, hour, minute, second, micros = node.machine.fields
            assert (year, month, day, weekday) == utime.gmtime(NOW)[:3] + (utime.gmtime(NOW)[6],)
            assert (hour, minute, second) == utime.gmtime(now // 1000)[3:6]
            assert micros == now % 1000 * 1000


def test_the_round_trip_is_halved():
    with Node(Time()) as node:
        sent = []

        def late(question):
            sent.append(question)
            node.time.ticks += 600
            return [right(question)]

        sync(node, [Server(late)], step_ms=0)
        assert len(sent) == 1
        assert node.clock.unix_ms(node.clock.uptime_ms()) == NOW * 1000 + 300


def test_an_answer_after_more_than_a_second_is_not_believed():
    with Node(Time()) as node:

        def late(question):
            node.time.ticks += 1001
            return [right(question)]

        sync(node, [Server(late)])
        assert node.clock.trust == "unknown"
        assert node.machine.fields is None


def test_the_first_good_server_counts():
    silent = Server(lambda q: [])
    liar = Server(lambda q: [answer(b"forged!!")])
    mad = Server(lambda q: [right(q, stratum=0)])
    short = Server(lambda q: [right(q)[:40]])
    good = Server(lambda q: [right(q), right(q, seconds=NOW + NTP_TO_UNIX + 1000)])  # twice, then otherwise
    never = Server(lambda q: [right(q)])
    with Node(Time()) as node:
        sync(node, [silent, liar, mad, short, good, never], step_ms=20)
        assert node.clock.trust == "synced"
        assert abs(node.clock.unix_ms(node.clock.uptime_ms()) - NOW * 1000) < 1000
        assert [s.asked for s in (silent, liar, mad, short, good, never)] == [1, 1, 1, 1, 1, 0]
        assert len(node.said) == 5


def test_without_an_answer_the_old_time_stays():
    with Node(Time(seconds=NOW)) as node:
        sync(node, [Server(lambda q: []), Server(lambda q: [b""])], step_ms=50)
        assert node.clock.trust == "holdover"
        assert node.machine.fields is None


def test_a_port_where_nobody_listens_and_a_name_that_is_none_are_passed_over():
    closed = Server(lambda q: [])
    closed.close()
    good = Server(lambda q: [right(q)])
    with Node(Time()) as node:

        class Names:
            def getaddrinfo(self, host, *rest):
                if host == "nowhere":
                    raise OSError(-2)
                return usocket.getaddrinfo(host, *rest)

            def __getattr__(self, name):
                return getattr(usocket, name)

        module.socket = Names()
        for pause in node.clock.sync([{"host": "nowhere", "port": 123}, closed.spec, good.spec]):
            assert pause
            good.serve()
            node.time.ticks += 1
        good.close()
        assert node.clock.trust == "synced"


def test_each_question_bears_another_cookie():
    seen = set()

    def note(question):
        assert len(question) == 48 and question[0] == 0x23 and question[1:40] == bytes(39)
        seen.add(bytes(question[40:48]))
        return [right(question)]

    for _ in range(20):
        with Node(Time()) as node:
            sync(node, [Server(note)])
    assert len(seen) == 20
