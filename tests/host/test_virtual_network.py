"""network and socket of the virtual board: the Wi-Fi station, and the way out through it."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from host_tools.errors import LimpetError
from host_tools.virtual.bench import Bench
from host_tools.virtual.radio import AccessPoint, Station
from host_tools.virtual.time_server import TimeServer
from host_tools.virtual.world import World
from tests.host.stand import wait_until
from tests.host.virtual_rig import MAC, Rig

OPEN = AccessPoint("open air", rssi=-40, channel=3)
GUARDED = AccessPoint("guarded", "the password", b"\x02\x00\x00\x00\x00\x07", 11, -70)
HELPERS = """
import network, socket, time, select
w = network.WLAN(network.WLAN.IF_STA)
def error(call, *args, **words):
    try:
        return call(*args, **words)
    except Exception as e:
        return (type(e).__name__,) + e.args
def wait(*wanted):
    for i in range(2000):
        if w.status() in wanted:
            return w.status()
        time.sleep_ms(10)
    return 'still %d' % w.status()
def join(ssid, key=None):
    w.active(True)
    w.disconnect()
    w.connect(ssid, key)
    return wait(1010, 201, 202)
def dial(port, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET, kind)
    s.connect(socket.getaddrinfo('127.0.0.1', port, 0, kind)[0][-1])
    s.settimeout(20)
    return s
"""


class Peer:
    """A TCP and a UDP socket on one port that return what they get, in capitals."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.got = b""
        self.ends: list[str] = []
        for target in (self._serve_tcp, self._serve_udp):
            threading.Thread(target=target, daemon=True).start()

    def close(self) -> None:
        self.tcp.close()
        self.udp.close()

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    self.got += data
                    connection.sendall(data.upper())
                self.ends.append("closed")
            except ConnectionResetError:
                self.ends.append("reset")

    def _serve_udp(self) -> None:
        while True:
            try:
                data, address = self.udp.recvfrom(2000)
                self.udp.sendto(data.upper(), address)
            except OSError:
                return


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def whole_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Bench() as bench:
        rig = Rig(bench, tmp_path_factory.mktemp("network") / "flash.bin", world=World())
        rig.says(">>> ")
        rig.run(HELPERS)
        yield rig


@pytest.fixture
def rig(whole_rig: Rig) -> Rig:
    """With both networks on the air, the station off, and a name server without faults."""
    server = whole_rig.world.name_server
    server.fault, server.delay = None, 0.0
    whole_rig.world.access_points[:] = [OPEN, GUARDED]
    whole_rig.run("w.active(False)")
    return whole_rig


def test_an_inactive_station(rig: Rig) -> None:
    assert rig.eval("w.active(), w.isconnected(), w.status()") == (False, False, 1000)
    assert rig.eval("error(w.connect, 'open air')") == ("OSError", "Wifi Not Started")
    assert rig.eval("error(w.disconnect)") == ("OSError", "Wifi Not Started")
    assert rig.eval("w.scan()") == []
    assert rig.eval("w.ifconfig()") == ("0.0.0.0",) * 4
    assert rig.eval("w.config('mac')") == MAC
    assert rig.eval("network.WLAN() is w, network.STA_IF, network.AP_IF") == (True, 0, 1)
    assert rig.eval("error(network.WLAN, 1)")[0] == "ValueError"


def test_scan(rig: Rig) -> None:
    assert rig.eval("w.active(True), w.active()") == (True, True)
    assert rig.eval("w.scan()") == [
        (b"open air", b"\x02\x00\x00\x00\x00\x01", 3, -40, 0, False),
        (b"guarded", b"\x02\x00\x00\x00\x00\x07", 11, -70, 3, False),
    ]


def test_joining(rig: Rig) -> None:
    rig.run("w.active(True)\nw.connect('guarded', 'the password')")
    assert rig.eval("wait(1010)") == 1010
    assert rig.eval("w.isconnected(), w.status('rssi'), w.config('ssid'), w.config('channel')") == (
        True,
        -70,
        "guarded",
        11,
    )
    assert rig.eval("w.ifconfig()") == ("10.0.0.42", "255.255.255.0", "10.0.0.1", "10.0.0.1")
    assert rig.eval("w.ipconfig('addr4')") == ("10.0.0.42", "255.255.255.0")
    rig.run("w.disconnect()")
    assert rig.eval("w.isconnected(), w.status()") == (False, 1000)
    assert rig.eval("error(w.status, 'rssi')")[0] == "OSError"
    assert rig.eval("error(w.status, 'height')") == ("ValueError", "unknown status param")
    assert rig.eval("join('open air'), join(b'guarded', b'the password')") == (1010, 1010)


def test_wrong_password_and_absent_network(rig: Rig) -> None:
    assert rig.eval("join('guarded', 'wrong')") == 202
    assert rig.eval("join('guarded')") == 202
    assert rig.eval("join('nowhere')") == 201
    assert rig.eval("network.STAT_NO_AP_FOUND, network.STAT_WRONG_PASSWORD, network.STAT_GOT_IP") == (
        201,
        202,
        1010,
    )
    # It goes on trying, and refuses another connect() until it is told to stop.
    assert rig.eval("error(w.connect, 'open air')") == ("OSError", "Wifi Internal Error")
    rig.world.access_points.append(AccessPoint("nowhere"))
    assert rig.eval("wait(1010)") == 1010


def test_reconnects_can_be_limited(rig: Rig) -> None:
    rig.run("w.active(True)\nw.config(reconnects=0)\nw.connect('nowhere')")
    assert rig.eval("w.config('reconnects'), wait(201), w.connect('open air'), wait(1010)") == (
        0,
        201,
        None,
        1010,
    )
    rig.world.access_points.clear()
    assert rig.eval("wait(200)") == 200  # BEACON_TIMEOUT, and it does not try again


def test_loss_and_return(rig: Rig) -> None:
    assert rig.eval("join('open air')") == 1010
    rig.world.access_points.clear()
    assert rig.eval("w.isconnected(), wait(201)") == (False, 201)
    rig.world.access_points.append(OPEN)
    assert rig.eval("wait(1010)") == 1010


def test_config(rig: Rig) -> None:
    assert rig.eval("w.config(pm=w.PM_NONE), w.config('pm')") == (None, 0)
    assert rig.eval("w.config(txpower=8), w.config('txpower')") == (None, 8.0)
    assert rig.eval("w.config(hostname='n01'), network.hostname(), w.config('hostname')") == (
        None,
        "n01",
        "n01",
    )
    for call in ("w.config, 'colour'", "w.config, colour=1"):
        assert rig.eval(f"error({call})") == ("ValueError", "unknown config param")
    assert rig.eval("error(w.config, 'mac', pm=0)")[0] == "TypeError"


def test_a_soft_reset_leaves_the_station_alone_and_a_hard_one_stops_it(rig: Rig) -> None:
    rig.eval("join('open air')")
    with rig.raw_repl(soft_reset=True) as board:
        board.exec(HELPERS)
    assert rig.eval("w.active(), w.isconnected()") == (True, True)
    since = rig.last_words("import machine\nmachine.reset()")
    rig.says(">>> ", since)
    rig.run(HELPERS)
    assert rig.eval("w.active(), w.isconnected()") == (False, False)


# Sockets


def test_without_wifi_there_is_no_way_out(rig: Rig) -> None:
    assert rig.eval("error(socket.getaddrinfo, '127.0.0.1', 80)") == ("OSError", -202)
    rig.run("w.active(True)")
    assert rig.eval("error(socket.getaddrinfo, '127.0.0.1', 80)") == ("OSError", -202)


def test_a_name_that_does_not_resolve(rig: Rig) -> None:
    rig.eval("join('open air')")
    assert rig.eval("error(socket.getaddrinfo, 'no-such-host.invalid', 80)") == ("OSError", -202)
    assert rig.eval("len(socket.getaddrinfo('localhost', 80)[0])") == 5


DNS = """
def ask(name, kind=b"\\0\\1", number=b"Lp", wait=5000):
    question = number + b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0"
    for label in name.split("."):
        question += bytes((len(label),)) + label.encode()
    question += b"\\0" + kind + b"\\0\\1"
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(socket.getaddrinfo(w.ifconfig()[3], 53)[0][-1])
    p = select.poll()
    p.register(s, select.POLLIN)
    s.send(question)
    answer = s.recv(512) if p.poll(wait) else None
    s.close()
    if answer and answer.startswith(question[:2]) and answer[12:len(question)] == question[12:]:
        return answer[2:12], answer[len(question):]
    return answer
"""


def test_the_name_server_that_the_network_names(rig: Rig) -> None:
    server = rig.world.name_server
    server.names.update({"broker.example": ["10.1.2.3", "10.1.2.4"], "nowhere.example": []})
    server.asked.clear()
    rig.eval("join('open air')")
    rig.run(DNS)
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4"
    head = b"\x81\x80\0\1\0%c\0\0\0\0"
    both = record + b"\x0a\1\2\3" + record + b"\x0a\1\2\4"
    assert rig.eval("ask('broker.example'), ask('Broker.Example')") == ((head % 2, both),) * 2
    assert rig.eval("ask('nowhere.example')") == (head % 0, b"")
    assert rig.eval("ask('localhost')") == (head % 1, record + b"\x7f\0\0\1")  # by the host's resolver
    rig.run("code, records = ask('no-such-host.invalid')")
    assert rig.eval("code[1] & 15 in (2, 3), records") == (True, b"")
    assert server.asked == ["broker.example"] * 2 + ["nowhere.example", "localhost", "no-such-host.invalid"]
    # What it does not speak, it does not answer.
    assert rig.eval("ask('broker.example', b'\\0\\x1c', wait=100)") is None


def test_faults_of_the_name_server(rig: Rig) -> None:
    server = rig.world.name_server
    server.names["broker.example"] = ["10.1.2.3"]
    rig.eval("join('open air')")
    rig.run(DNS)
    codes = {"no-such-name": 3, "server-failure": 2}
    for fault, code in codes.items():
        server.fault = fault
        assert rig.eval("ask('broker.example')") == (
            b"\x81" + bytes((0x80 | code,)) + b"\0\1" + bytes(6),
            b"",
        )
    server.fault = "nonsense"
    assert rig.eval("ask('broker.example')") == b"I am not a name server.\n"
    server.fault = "wrong-id"
    assert rig.eval("ask('broker.example')")[:2] == b"\xb3p"
    server.fault = "cut-off"
    assert rig.eval("ask('broker.example')[0][0] & 2") == 2
    server.fault = "silent"
    assert rig.eval("ask('broker.example', wait=100)") is None
    server.fault = None
    server.delay = 0.3
    assert rig.eval("ask('broker.example', wait=50)") is None
    assert rig.eval("ask('broker.example')[1][-4:]") == b"\x0a\1\2\3"
    server.delay = 0.0
    with pytest.raises(LimpetError, match="A name server has no fault 'dead'; it has silent"):
        server.fault = "dead"


def test_names_do_not_get_through_without_the_access_point(rig: Rig) -> None:
    rig.world.name_server.names["broker.example"] = ["10.1.2.3"]
    rig.eval("join('open air')")
    rig.run(DNS + "\naddress = socket.getaddrinfo(w.ifconfig()[3], 53)[0][-1]")
    before = len(rig.world.name_server.asked)
    rig.world.access_points.clear()
    rig.run("wait(201)\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.connect(address)")
    rig.run("n = s.send(b'xx\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\1a\\0\\0\\1\\0\\1')\ntime.sleep_ms(100)")
    assert len(rig.world.name_server.asked) == before
    rig.world.access_points.append(OPEN)
    rig.run("wait(1010)\nn = s.send(b'xx\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\1a\\0\\0\\1\\0\\1')")
    wait_until(lambda: len(rig.world.name_server.asked) > before, "the question")


def _sntp(server: TimeServer, seconds: float = 5.0) -> bytes | None:
    """What it answers to a question whose cookie is `12345678`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        sock.sendto(b"\x23" + bytes(39) + b"12345678", ("127.0.0.1", server.port))
        with contextlib.suppress(TimeoutError):
            return sock.recv(100)
    return None


def test_faults_of_the_time_server() -> None:
    with Bench() as bench:
        server = bench.run(TimeServer.open(lambda: 1800000000.5))
        bench.on_close(server.close)
        stamp = struct.pack(">II", 1800000000 + 2208988800, 1 << 31)
        answer = _sntp(server)
        assert answer is not None and len(answer) == 48
        assert (answer[0], answer[1], answer[24:]) == (0x24, 2, b"12345678" + stamp * 2)
        server.leap = 1
        assert (_sntp(server) or b"")[0] == 0x64
        for fault, first, stratum, reference in (
            ("unsynchronised", 0xE4, 16, b"INIT"),
            ("kiss-of-death", 0xE4, 0, b"RATE"),
        ):
            server.fault = fault
            answer = _sntp(server) or b""
            assert (answer[0], answer[1], answer[12:16], answer[24:32]) == (
                first,
                stratum,
                reference,
                b"12345678",
            )
        server.fault = "nonsense"
        assert _sntp(server) == b"I am not a time server.\n"
        server.fault = "forged"
        assert (_sntp(server) or b"")[24:32] == bytes(8)
        server.fault = "silent"
        assert _sntp(server, 0.1) is None
        assert server.asked == 7
        server.fault = None
        for server.delay, server.way in ((0.2, 0.0), (0.0, 0.2)):
            began = time.monotonic()
            assert _sntp(server)
            assert time.monotonic() - began >= 0.2
        with pytest.raises(LimpetError, match="A time server has no fault 'drunk'"):
            server.fault = "drunk"


def test_tcp(rig: Rig, peer: Peer) -> None:
    rig.eval("join('open air')")
    rig.run(f"s = dial({peer.port})\nn = s.write(b'hello')")
    assert rig.eval("s.read(5)") == b"HELLO"
    # 100 kB in both directions, more than any buffer on the way holds.
    rig.run("got = 0\nfor i in range(100):\n    n = s.write(b'x' * 1000)\n    got += len(s.read(1000))")
    assert rig.eval("got") == 100_000
    rig.run("s.close()")
    wait_until(lambda: peer.ends == ["closed"], "the end of the connection")
    assert peer.got == b"hello" + b"x" * 100_000


def test_udp(rig: Rig, peer: Peer) -> None:
    rig.eval("join('open air')")
    rig.run(f"a = dial({peer.port}, socket.SOCK_DGRAM)\nb = dial({peer.port}, socket.SOCK_DGRAM)")
    assert rig.eval("a.send(b'one'), b.send(b'two'), b.recv(9), a.recv(9)") == (3, 3, b"TWO", b"ONE")


def test_a_refused_connection_ends(rig: Rig) -> None:
    rig.eval("join('open air')")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answer = rig.eval(f"error(lambda: dial({port}).read(1))")
    assert answer == b"" or answer[0] == "OSError"


def test_a_connection_stalls_without_the_access_point_and_goes_on_with_it(rig: Rig, peer: Peer) -> None:
    rig.eval("join('open air')")
    rig.run(
        f"s = dial({peer.port})\nu = dial({peer.port}, socket.SOCK_DGRAM)\n"
        "p = select.poll()\np.register(s, 1)\np.register(u, 1)"
    )
    rig.world.access_points.clear()
    rig.run("wait(201)\nn = s.write(b'late')\nn = u.send(b'lost')")
    assert rig.eval("p.poll(400)") == []
    assert peer.got == b""
    rig.world.access_points.append(OPEN)
    assert rig.eval("wait(1010), s.read(4)") == (1010, b"LATE")
    assert rig.eval("p.poll(200)") == []  # a datagram does not wait


@pytest.mark.parametrize("end", ["import machine\nmachine.reset()", "power cut"])
def test_the_peer_sees_the_connection_die_at_a_reset(rig: Rig, peer: Peer, end: str) -> None:
    rig.eval("join('open air')")
    rig.run(f"s = dial({peer.port})\nn = s.write(b'hello')\ns.read(5)")
    since = len(rig.log)
    if end == "power cut":
        rig.power_off()
        wait_until(lambda: peer.ends, "the end of the connection")
        rig.power_on()
    else:
        rig.last_words(end)
        wait_until(lambda: peer.ends, "the end of the connection")
    assert peer.ends == ["reset"]
    rig.says(">>> ", since)
    rig.run(HELPERS)


def test_ctrl_c_during_a_slow_look_up_leaves_the_wire_in_step(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the interrupted question must not be taken for that to the next one."""
    release = threading.Event()
    look_up = socket.getaddrinfo

    def slowly(host: object, *args: object, **words: object) -> object:
        if host == "slow.example":
            release.wait(30)
            host = "127.0.0.1"
        return look_up(host, *args, **words)  # type: ignore[arg-type]

    rig.eval("join('open air')")
    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with rig.raw_repl() as board:
        board.exec_raw_no_follow("print('go')\nsocket.getaddrinfo('slow.example', 80)")
        board.read_until(1, b"go\r\n")
        board.serial.write(b"\x03")
        _, error = board.follow(20)
        assert error.endswith(b"KeyboardInterrupt: \r\n")
        assert board.eval("w.status()") == 1010
        release.set()
        for _ in range(20):
            assert board.eval("w.ifconfig()[0]") == "10.0.0.42"


# The station by itself, with a clock that the test moves


def test_station_by_the_clock() -> None:
    now = [100.0]
    station = Station(MAC, [OPEN], lambda: now[0])
    assert station.connect("open air", None) == "Wifi Not Started"
    station.activate(True)
    assert station.connect("open air", None) is None
    assert station.status() == 1001
    now[0] += station.association_time - 0.01
    assert station.status() == 1001
    now[0] += 0.02
    assert station.status() == 1010
    station.access_points.clear()
    assert station.status() == 1001  # lost, and trying
    now[0] += station.association_time
    assert station.status() == 201
    # The reason of the last failure stays until the next success or disconnect(), as on the ESP32.
    assert station.disconnect() is None
    assert station.status() == 1000
    assert station.connect("open air", None) is None
    assert station.status() == 1000


def test_the_strongest_of_equal_names_is_joined() -> None:
    now = [0.0]
    weak, strong = AccessPoint("both", rssi=-80, channel=1), AccessPoint("both", rssi=-50, channel=6)
    station = Station(MAC, [weak, strong], lambda: now[0])
    station.activate(True)
    station.connect("both", "a password that an open network ignores")
    now[0] += 1
    assert station.describe()["rssi"] == -50


def test_no_password_in_a_repr() -> None:
    assert "the password" not in repr(GUARDED)
