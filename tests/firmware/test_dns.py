"""limpet.dns against a name server of this test, on the machine's loopback; the seconds are the test's."""

import udp
import usocket
from limpet import dns

dns.socket = usocket  # the virtual board's would look for its supervisor

SERVER = "10.0.0.1"
A = b"\0\1\0\1"
NAMED = b"\xc0\x0c"  # a pointer to the question's name


class Time:
    """A stand-in for `time` whose ticks go on as the waiting does."""

    def __init__(self):
        self.ticks = 0

    def ticks_ms(self):
        return self.ticks & 0x3FFFFFFF

    def ticks_diff(self, a, b):
        return (a - b + 0x20000000 & 0x3FFFFFFF) - 0x20000000


class Sockets:
    """The machine's sockets; the name server's port 53 is the test's. Counts those that are open."""

    def __init__(self, port):
        self._port = port
        self.open = 0

    def getaddrinfo(self, host, port, *rest):
        assert "a" not in host, "this blocks on a chip"
        if (host, port) == (SERVER, 53):
            host, port = "127.0.0.1", self._port
        return usocket.getaddrinfo(host, port, *rest)

    def socket(self, *kind):
        self.open += 1
        return Socket(usocket.socket(*kind), self)

    def __getattr__(self, name):
        return getattr(usocket, name)


class Socket:
    def __init__(self, real, sockets):
        self._real = real
        self._sockets = sockets

    def close(self):
        self._sockets.open -= 1
        self._real.close()

    def __getattr__(self, name):
        return getattr(self._real, name)


class Poller:
    """select.poll() for a Socket."""

    def __init__(self, real):
        self._real = real

    def register(self, sock, events):
        self._real.register(sock._real, events)

    def poll(self, timeout):
        return self._real.poll(timeout)


class Select:
    POLLIN = 1

    def poll(self):
        import select

        return Poller(select.poll())


class Server:
    """A name server. `answers` gets the question and gives the datagrams to send."""

    def __init__(self, answers):
        self._answers = answers
        self.questions = []
        self.peers = []
        self._socket, self.port = udp.server()

    def serve(self):
        try:
            question, peer = self._socket.recvfrom(600)
        except OSError:
            return
        self.questions.append(question)
        self.peers.append(bytes(peer))
        for answer in self._answers(question):
            self._socket.sendto(answer, peer)

    def close(self):
        self._socket.close()


def record(data, kind=A, name=NAMED, size=None):
    return name + kind + b"\0\0\0\x3c" + bytes((0, len(data) if size is None else size)) + data


def reply(question, *records, flags=b"\x81\x80", count=None):
    count = len(records) if count is None else count
    head = question[:2] + flags + b"\0\1" + bytes((count >> 8, count & 255)) + bytes(4)
    return head + question[12:] + b"".join(records)


def resolve(server, host="broker.example", port=8883, step_ms=2, **options):
    """Run it; the time goes on by `step_ms` at each wait. The address; server.took is the ms that it took."""
    saved = dns.time, dns.socket, dns.select
    clock, sockets = Time(), Sockets(server.port)
    dns.time, dns.socket, dns.select = clock, sockets, Select()
    try:
        steps = dns.resolve(host, port, SERVER, **options)
        while True:
            assert 0 < next(steps) <= 10
            server.serve()
            clock.ticks += step_ms
    except StopIteration as e:
        return e.value
    finally:
        server.took = clock.ticks
        assert sockets.open == 0
        dns.time, dns.socket, dns.select = saved
        server.close()


def error(answers, **options):
    """The text of the OSError, the ms that it took, and how often the server was asked."""
    server = Server(answers)
    try:
        resolve(server, **options)
    except OSError as e:
        return str(e), server.took, len(server.questions)
    raise AssertionError("believed")


def there(host, port=8883):
    return usocket.getaddrinfo(host, port)[0][-1]


def test_an_address_needs_no_server():
    for host in ("127.0.0.1", "10.20.30.40", "255.255.255.255"):
        try:
            next(dns.resolve(host, 8883, None))
            raise AssertionError("waits")
        except StopIteration as e:
            assert e.value == there(host)


def test_what_only_looks_like_an_address_is_a_name():
    for host in ("10.0.0.256", "1.2.3", "1.2.3.4.5", "1.2.3.x", "1.2.3.-4"):
        server = Server(lambda q: [reply(q, record(b"\x0a\x14\x1e\x28"))])
        assert resolve(server, host) == there("10.20.30.40")


def test_a_name_is_asked_for_and_its_address_given():
    server = Server(lambda q: [reply(q, record(b"\x0a\x14\x1e\x28"))])
    assert resolve(server, "Broker.Plant-2.example") == there("10.20.30.40")
    question = server.questions[0]
    assert question[2:12] == b"\x01\x00\0\x01\0\0\0\0\0\0"  # a standard query, recursion desired
    assert question[12:] == b"\x06broker\x07plant-2\x07example\0\0\1\0\1"


def test_the_question_s_name_may_come_back_in_other_letters():
    def shout(question):
        name = question[12:]
        return [reply(question[:12] + name.upper(), record(b"\x0a\x14\x1e\x28"))]

    assert resolve(Server(shout)) == there("10.20.30.40")


def test_numbers_and_ports_differ():
    numbers, peers = set(), set()
    for _ in range(20):
        server = Server(lambda q: [reply(q, record(b"\x7f\0\0\1"))])
        resolve(server)
        numbers.add(server.questions[0][:2])
        peers.add(server.peers[0])
    assert len(numbers) >= 19 and len(peers) >= 15


def test_aliases_are_passed_over():
    alias = record(b"\x04edge\x03cdn\xc0\x1b", b"\0\5\0\1")
    far = record(b"\x0a\x14\x1e\x28", name=b"\x04edge\x03cdn\x07example\0")
    address = there("10.20.30.40")
    assert resolve(Server(lambda q: [reply(q, alias, alias, far)])) == address
    # other types, and another class
    others = [record(bytes(16), b"\0\x1c\0\1"), record(b"\1\2\3\4", b"\0\1\0\3"), record(b"", b"\0\x2e\0\1")]
    assert resolve(Server(lambda q: [reply(q, *others + [far])])) == address
    assert resolve(Server(lambda q: [reply(q, far, record(b"\1\1\1\1"))])) == address


def test_no_such_name_and_no_address_are_final():
    assert error(lambda q: [reply(q, flags=b"\x81\x83")]) == ("no such name", 2, 1)
    assert error(lambda q: [reply(q, flags=b"\x81\x82")])[0] == "name server says error 2"
    assert error(lambda q: [reply(q)])[0] == "name has no address"
    assert error(lambda q: [reply(q, record(bytes(16), b"\0\x1c\0\1"))])[0] == "name has no address"


def test_a_silent_server_is_asked_thrice_a_second_apart():
    text, took, asked = error(lambda q: [])
    assert text == "name server 10.0.0.1: no answer"
    assert asked == 3 and 3000 <= took <= 3100
    text, took, asked = error(lambda q: [], tries=2)
    assert asked == 2 and 2000 <= took <= 2100


def test_the_last_try_counts():
    tries = []

    def late(question):
        tries.append(question[:2])
        return [reply(question, record(b"\x0a\x14\x1e\x28"))] if len(tries) == 3 else []

    server = Server(late)
    assert resolve(server) == there("10.20.30.40")
    assert 2000 <= server.took <= 2100
    assert len(set(tries)) > 1, "another number each time"


def test_an_answer_that_waits_for_a_busy_node_counts():
    server = Server(lambda q: [reply(q, record(b"\x0a\x14\x1e\x28"))])
    assert resolve(server, step_ms=5000) == there("10.20.30.40")


def test_answers_to_other_questions_are_not_taken():
    good = record(b"\x06\x06\x06\x06")
    wrong = (
        lambda q: bytes((q[0], q[1] ^ 1)) + reply(q, good)[2:],
        lambda q: bytes((q[0] ^ 0x80, q[1])) + reply(q, good)[2:],
        lambda q: reply(q[:13] + b"x" + q[14:], good),
        lambda q: reply(q[:-3] + b"\x1c\0\1", good),  # type AAAA
        lambda q: reply(q, good, flags=b"\x01\x00"),  # a question
        lambda q: reply(q, good, flags=b"\xa1\x80"),  # another operation
        lambda q: q,
        lambda q: q[:2] + b"\x81\x80\0\0\0\1\0\0\0\0" + good,  # without the question
        lambda q: reply(q, good)[:4] + b"\0\2" + reply(q, good)[6:],
        lambda q: reply(q)[:-1],
        lambda q: q[:2],
        lambda q: b"",
        lambda q: b"\xff" * 512,
    )
    for forge in wrong:
        text, _, _ = error(lambda q, forge=forge: [forge(q)], tries=1)
        assert text == "name server 10.0.0.1: answers nonsense"
        server = Server(lambda q: [forge(q), reply(q, record(b"\x0a\x14\x1e\x28"))])  # noqa: B023
        assert resolve(server) == there("10.20.30.40")


def test_a_flood_does_not_hold_it():
    _, took, asked = error(lambda q: [b"x" * 600] * 200)
    assert asked == 3 and took <= 3100


def test_garbage_behind_the_question_is_refused():
    nonsense = "name server answers nonsense"
    good = record(b"\x06\x06\x06\x06")
    for bad in (
        lambda q: reply(q, count=1),
        lambda q: reply(q, good[:-1]),
        lambda q: reply(q, good[:7]),
        lambda q: reply(q, record(b"", size=0)),
        lambda q: reply(q, record(b"\1\2\3", size=3)),
        lambda q: reply(q, record(b"x" * 40, b"\0\5\0\1", size=255), good),
        lambda q: reply(q, b"\x40" + good),  # labels of kinds that do not exist
        lambda q: reply(q, b"\x80" + good),
        lambda q: reply(q, b"\xc0"),
        lambda q: reply(q, b"\x3f" + good),
        lambda q: reply(q, b"\x01a" * 100, count=65535),
        lambda q: reply(q, record(b"", b"\0\5\0\1") * 30, count=65535),
        lambda q: reply(q, good, flags=b"\x83\x80"),  # cut off
    ):
        assert error(lambda q: [bad(q)])[0] == nonsense  # noqa: B023


def test_pointers_cannot_lead_in_a_circle():
    def circle(question):
        at = len(question)
        return [reply(question, record(b"\x0a\x14\x1e\x28", name=bytes((0xC0 | at >> 8, at & 255))))]

    assert resolve(Server(circle)) == there("10.20.30.40")


def test_any_answer_ends_well():
    """Random damage in a good answer: an address or an OSError, in time, and nothing else."""
    seed = [12345]

    def dice(n):
        seed[0] = (seed[0] * 1103515245 + 12345) & 0x7FFFFFFF
        return (seed[0] >> 8) % n

    def damage(question):
        answer = bytearray(reply(question, record(b"\1a", b"\0\5\0\1"), record(b"\x0a\x14\x1e\x28")))
        for _ in range(1 + dice(4)):
            answer[len(question) + dice(len(answer) - len(question))] = dice(256)
        return [bytes(answer)[: len(answer) - dice(3)]]

    ends = {}
    for _ in range(300):
        try:
            resolve(Server(damage))
            end = "address"
        except OSError as e:
            end = str(e)
        ends[end] = ends.get(end, 0) + 1
    assert len(ends) >= 2 and set(ends) <= {
        "address",
        "name server answers nonsense",
        "name has no address",
    }, ends


def test_what_cannot_be_a_name_is_not_asked_for():
    server = Server(lambda q: [])
    for host in ("", ".", "a..example", "x" * 64 + ".example", ".example"):
        try:
            next(dns.resolve(host, 8883, SERVER))
            raise AssertionError(host)
        except OSError as e:
            assert str(e) == "not a name"
    server.close()


def test_a_server_that_is_not_there_is_an_error_at_once():
    server = Server(lambda q: [])
    server.close()

    class Closed(Server):
        def __init__(self, port):
            self.port = port

        def serve(self):
            pass

        def close(self):
            pass

    try:
        resolve(Closed(server.port))
        raise AssertionError("resolved")
    except OSError as e:
        assert str(e).startswith("name server 10.0.0.1: ")


def test_a_wait_that_is_given_up_leaves_no_socket():
    server = Server(lambda q: [])
    saved = dns.time, dns.socket, dns.select
    dns.time, dns.socket, dns.select = Time(), Sockets(server.port), Select()
    steps = dns.resolve("broker.example", 1, SERVER)
    next(steps)
    assert dns.socket.open == 1
    steps.close()
    assert dns.socket.open == 0
    dns.time, dns.socket, dns.select = saved
    server.close()
