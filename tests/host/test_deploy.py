"""`limpet deploy` against virtual boards: what ends up on them, and what is said when it cannot be."""

import fcntl
import hashlib
import os
import pty
import random
import re
import signal
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import serial
from littlefs import LittleFS
from serial.rfc2217 import PortManager

from host_tools import boards, image, micropython, partitions, paths
from host_tools.deploy import STAGE
from tests.host.shell import Done, Running, limpet, refused
from tests.host.stand import Node, Stand, wait_until

BOARD = boards.load_board("virtual")
VFS = partitions.find(BOARD.partition_table(), "vfs")
NODE_FILE = paths.ROOT / "docs" / "node.example.toml"


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with Stand(tmp_path) as stand:
        yield stand


def old_firmware() -> dict[str, bytes]:
    """The same firmware with other bytes: each module bears another name in its tracebacks."""
    files = image.firmware_files()
    for source in (paths.FIRMWARE / "limpet").rglob("*.py"):
        name = source.relative_to(paths.FIRMWARE).as_posix()
        files[name.removesuffix(".py") + ".mpy"] = micropython.cross_compile(source, f"old/{name}")
    return files


def on_flash(node: Node) -> dict[str, bytes]:
    """All files of a board that is switched off."""
    fs = LittleFS(block_size=4096, block_count=VFS.size // 4096, mount=False)
    fs.context.buffer[:] = node.flash.read_bytes()[VFS.offset : VFS.end]
    fs.mount()
    found = {}
    for folder, folders, names in fs.walk("/"):
        assert folders or names or folder == "/", f"an empty folder: {folder}"
        for name in names:
            path = f"{folder}/{name}".lstrip("/")
            with fs.open(path, "rb") as f:
                found[path] = f.read()
    return found


def sums(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def switch_off(node: Node, done: Done | None = None) -> dict[str, str]:
    assert done is None or (done.code, done.err) == (0, ""), done
    node.power_off()
    return sums(on_flash(node))


def test_to_a_bare_board_and_again_and_a_change_and_settings(stand: Stand) -> None:
    node = stand.node(files={"mine.txt": b"mine", "lib/mine.py": b""}, identity=b"").start()
    port = node.board.port.path
    wanted = image.firmware_files()
    first = limpet("deploy", "--port", port)
    assert first.out.splitlines()[-1] == f"{port}: {len(wanted)} written, 0 removed, 0 the same"
    node.says("node: limpet")
    mine = {"mine.txt": b"mine", "lib/mine.py": b""}
    assert switch_off(node, first) == sums(wanted | mine)

    node.power_on()
    again = limpet("deploy", "-p", port)
    assert again.out == f"{port}: nothing to do, all {len(wanted)} files are the same\n"
    assert switch_off(node, again) == sums(wanted | mine)

    node.power_on()
    settings = limpet("deploy", "-p", port, "--node", NODE_FILE)
    last = f"{port}: 1 written, 0 removed, {len(wanted)} the same"
    assert [re.sub(r"\d+ bytes", "N bytes", line) for line in settings.out.splitlines()] == [
        "  limpet.json, N bytes",
        last,
    ]
    after = switch_off(node, settings)
    assert set(after) == {*wanted, *mine, "limpet.json"}
    seen = len(node.log)
    node.power_on()
    node.says("node: cannot start: identity partition is blank", seen)
    kept = limpet("deploy", "-p", port)
    assert switch_off(node, kept) == after, "settings stay without --node"


def test_only_what_differs_is_written_and_what_is_stale_goes(stand: Stand) -> None:
    wanted = image.firmware_files()
    changed = wanted | {
        "limpet/node.mpy": old_firmware()["limpet/node.mpy"],
        "limpet/node.py": b"1 / 0  # would be taken before the byte code\n",
        "limpet/old/thing.mpy": b"x",
        f"{STAGE}/0123456789abcdef": b"of a deploy that was cut off",
        "limpet.txt": b"mine, whatever its name",
    }
    node = stand.node(files=changed, identity=b"").start()
    done = limpet("deploy", "-p", node.board.port.path)
    assert done.out.splitlines() == [
        f"  limpet/node.mpy, {len(wanted['limpet/node.mpy'])} bytes",
        "  limpet/node.py removed",
        "  limpet/old/thing.mpy removed",
        f"{node.board.port.path}: 1 written, 2 removed, {len(wanted) - 1} the same",
    ]
    node.says("node: limpet")
    assert switch_off(node, done) == sums(wanted | {"limpet.txt": changed["limpet.txt"]})


class Bridge:
    """A TCP server in front of a serial port. `limit`: what happens after so many bytes to the board."""

    def __init__(
        self, port: str, limit: int | None = None, on_limit: Callable[[], None] = lambda: None
    ) -> None:
        self._serial = serial.Serial(port, 115200, timeout=0.05)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._limit, self._on_limit = limit, on_limit
        self.passed = 0
        self._stop = threading.Event()
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._stop.set()
        self._server.close()
        for thread in self._threads:
            thread.join(10)
        self._serial.close()

    def _serve(self) -> None:
        with suppress(OSError):
            self._peer, _ = self._server.accept()
            self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peer.settimeout(0.05)
            back = threading.Thread(target=self._back, daemon=True)
            self._threads.append(back)
            back.start()
            while not self._stop.is_set():
                with suppress(TimeoutError):
                    data = self._peer.recv(1024)
                    if not data:
                        break
                    if self._limit is not None and self.passed + len(data) >= self._limit:
                        self._serial.write(data[: self._limit - self.passed])
                        self.passed = self._limit
                        self._on_limit()
                        return
                    self._serial.write(data)
                    self.passed += len(data)

    def _back(self) -> None:
        with suppress(OSError):
            while not self._stop.is_set():
                self._peer.sendall(self._serial.read(self._serial.in_waiting or 1))


@contextmanager
def bridge(
    port: str, limit: int | None = None, on_limit: Callable[[], None] = lambda: None
) -> Iterator[Bridge]:
    bridge = Bridge(port, limit, on_limit)
    try:
        yield bridge
    finally:
        bridge.close()


def test_cut_off_anywhere_the_board_boots_and_the_next_one_finishes(stand: Stand) -> None:
    wanted = sums(image.firmware_files())
    before = old_firmware() | {"limpet/stale.mpy": b"x"}
    node = stand.node(files=before, identity=b"").start()
    with bridge(node.board.port.path) as whole:
        done = limpet("deploy", "-p", whole.url)
        size = whole.passed
    assert switch_off(node, done) == wanted
    # Where it is cut off: entering, looking, sending, in the middle of the steps, at the very end.
    for limit in (100, 1000, size // 3, 2 * size // 3, size - 900, size - 60, size - 2):
        flash = image.compose(BOARD, before, b"")
        node.flash.write_bytes(flash)
        seen = len(node.log)
        node.power_on()
        node.says("node: limpet", seen)
        gone = threading.Event()
        with (
            bridge(node.board.port.path, limit, gone.set) as cut,
            Running("deploy", "-p", cut.url) as running,
        ):
            assert gone.wait(30), (limit, running.err)
            running.send(signal.SIGKILL)
            running.wait()
        seen = len(node.log)
        node.power_off()
        node.power_on()  # the power goes off and on
        wait_until(
            lambda seen=seen: re.search("node: limpet|a deploy was cut off", node.log[seen:]),  # type: ignore[misc]
            f"a boot after {limit} of {size} bytes",
        )
        assert "Traceback" not in node.log[seen:]
        again = limpet("deploy", "-p", node.board.port.path)
        assert switch_off(node, again) == wanted, f"cut off after {limit} of {size} bytes"


class NoLines(serial.Serial):
    """A pseudo-terminal for pyserial's RFC 2217 server, which asks for lines that it does not have."""

    cts = dsr = ri = cd = False

    def _update_rts_state(self) -> None:
        pass

    def _update_dtr_state(self) -> None:
        pass


def test_over_rfc_2217(stand: Stand) -> None:
    node = stand.node(files=old_firmware(), identity=b"").start()
    device = NoLines(node.board.port.path, 115200, timeout=0.05)
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        peer, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        class Writer:
            def write(self, data: bytes) -> None:
                peer.sendall(data)

        manager = PortManager(device, Writer())  # type: ignore[arg-type]
        peer.settimeout(0.02)
        with suppress(OSError):
            while not stop.is_set():
                with suppress(TimeoutError):
                    data = peer.recv(1024)
                    if not data:
                        return
                    device.write(b"".join(manager.filter(data)))
                if device.in_waiting:
                    peer.sendall(b"".join(manager.escape(device.read(device.in_waiting))))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    done = limpet("deploy", "-p", f"rfc2217://127.0.0.1:{server.getsockname()[1]}")
    stop.set()
    thread.join(10)
    server.close()
    device.close()
    assert switch_off(node, done) == sums(image.firmware_files())


def test_a_full_filesystem_keeps_its_old_firmware_and_gets_its_room_back(stand: Stand) -> None:
    before = old_firmware()
    free = VFS.size - sum(-(-len(data) // 4096) * 4096 for data in before.values())
    before["mine.bin"] = bytes(free - 60_000)
    node = stand.node(files=before, identity=b"").start()
    port = node.board.port.path
    seen = len(node.log)
    done = limpet("deploy", "-p", port)
    assert re.fullmatch(
        f"limpet: {port}: the board's filesystem has no room for \\d+ more bytes: remove files of your own "
        "from it, and deploy again.\n",
        done.err,
    ), done
    assert (done.code, done.out) == (1, "")
    node.says("node: limpet", seen)
    node.power_off()
    assert on_flash(node) == before


def test_a_read_only_filesystem(stand: Stand) -> None:
    boot = b"""
import esp32, vfs
part = esp32.Partition.find(esp32.Partition.TYPE_DATA, label="vfs")[0]
vfs.umount("/")
vfs.mount(vfs.VfsLfs2(part, progsize=32, readsize=32, lookahead=32), "/", readonly=True)
"""
    before = old_firmware() | {"boot.py": boot}
    node = stand.node(files=before, identity=b"").start()
    port = node.board.port.path
    refused(
        limpet("deploy", "-p", port),
        f"{port}: the board's filesystem is read-only: mount it writable (see its boot.py), "
        "and deploy again.",
    )
    node.power_off()
    assert on_flash(node) == before


def test_a_bad_node_file_leaves_the_board_alone(stand: Stand, tmp_path: Path) -> None:
    node = stand.node(files={}, identity=b"").start()
    bad = tmp_path / "bad.toml"
    bad.write_text(NODE_FILE.read_text().replace("address", "adress", 1))
    done = limpet("deploy", "-p", node.board.port.path, "--node", bad)
    assert done.code == 1
    assert "sensors.bme280.adress: unknown key. Did you mean 'address'?" in done.err
    assert (done.out, node.board.boots) == ("", 1)


def test_a_port_that_does_not_do(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"127.0.0.1:{taken.getsockname()[1]}"
    for port, why in {
        "/dev/nope": None,
        "": None,
        "/dev/null": "it is no serial port; name the board's",
        str(file): "it is no serial port; name the board's",
        str(fifo): "it is no serial port; name the board's",
        str(tmp_path): "it is a folder; name the board's port",
        "foo://x": "invalid URL, protocol 'foo' not known",
        f"socket://{dead}": "nothing listens there; start the server, or name another address",
        f"rfc2217://{dead}": "nothing listens there; start the server, or name another address",
    }.items():
        refused(
            limpet("deploy", "-p", port),
            f"The serial port {port} cannot be opened: {why}."
            if why
            else f"The serial port '{port}' does not exist: plug the board in, or name its port.",
        )


def test_a_port_that_another_program_has_open() -> None:
    master, slave = pty.openpty()
    port = os.ttyname(slave)
    fcntl.flock(slave, fcntl.LOCK_EX)
    refused(
        limpet("deploy", "-p", port),
        f"The serial port {port} cannot be opened: another program has it open; close that first.",
    )
    os.close(slave)
    os.close(master)


def test_a_port_that_says_nothing_and_one_that_babbles() -> None:
    ends = [pty.openpty(), pty.openpty()]
    ports = [os.ttyname(slave) for _, slave in ends]
    for _, slave in ends:
        tty.setraw(slave)
    stop = threading.Event()

    def babble(master: int) -> None:
        chance = random.Random(1)
        os.set_blocking(master, False)
        while not stop.wait(0.001):
            with suppress(BlockingIOError):
                os.write(master, chance.randbytes(64))
            with suppress(BlockingIOError):
                os.read(master, 4096)

    thread = threading.Thread(target=babble, args=(ends[1][0],), daemon=True)
    thread.start()
    with Running("deploy", "-p", ports[0]) as silent, Running("deploy", "-p", ports[1]) as babbling:
        for port, running in zip(ports, (silent, babbling), strict=True):
            assert running.wait() == 1
            assert running.lines == []
            assert re.fullmatch(
                f"limpet: {port}: no MicroPython answers \\([^\\n]+\\); see that it is the board's port, and "
                "that the board runs MicroPython.\n",
                running.err,
            ), running.err
    stop.set()
    thread.join()
    for descriptor in (descriptor for pair in ends for descriptor in pair):
        os.close(descriptor)
