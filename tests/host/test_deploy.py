"""`limpet deploy` against virtual boards: what ends up on them, and what is said when it cannot be."""

import fcntl
import hashlib
import json
import os
import pty
import random
import re
import signal
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import serial
from littlefs import LittleFS

from host_tools import boards, image, micropython, partitions, paths
from host_tools.deploy.plan import STAGE
from host_tools.errors import NoDeviceError
from host_tools.repl import Repl
from tests.host.shell import Done, Running, limpet, refused
from tests.host.virtual_rig import Rig, boards_on_bench, compose

BOARD = boards.load_board("virtual")
VFS = partitions.find(BOARD.partition_table(), "vfs")
NOBODY = "nothing listens there, or another program has it; start the server, or close that program"
NODE_FILE = paths.ROOT / "docs" / "node.example.toml"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A board whose flash each test sets by `start`."""
    with boards_on_bench() as (rig,):
        yield rig


@pytest.fixture(scope="module")
def wanted() -> dict[str, bytes]:
    return image.firmware_files()


@pytest.fixture(scope="module")
def old() -> dict[str, bytes]:
    """The same firmware with other bytes: each module bears another name in its tracebacks."""
    files = image.firmware_files()
    for source in (paths.FIRMWARE / "limpet").rglob("*.py"):
        name = source.relative_to(paths.FIRMWARE).as_posix()
        files[name.removesuffix(".py") + ".mpy"] = micropython.cross_compile(source, f"old/{name}")
    return files


def start(rig: Rig, files: dict[str, bytes]) -> None:
    """Switch the board on with these files, and wait for its firmware if there is any."""
    rig.power_off()
    rig.flash.write_bytes(compose(files))
    seen = len(rig.log)
    rig.power_on()
    rig.says("node: limpet" if "main.py" in files else ">>> ", seen)


def on_flash(rig: Rig) -> dict[str, bytes]:
    """All files of a board that is switched off."""
    fs = LittleFS(block_size=4096, block_count=VFS.size // 4096, mount=False)
    fs.context.buffer[:] = rig.flash.read_bytes()[VFS.offset : VFS.end]
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


def switch_off(rig: Rig, done: Done | None = None) -> dict[str, str]:
    assert done is None or (done.code, done.err) == (0, ""), done
    rig.power_off()
    return sums(on_flash(rig))


def test_to_a_bare_board_and_again_and_a_change_and_settings(rig: Rig, wanted: dict[str, bytes]) -> None:
    mine = {"mine.txt": b"mine", "lib/mine.py": b""}
    start(rig, mine)
    first = limpet("deploy", "--port", rig.url)
    assert first.out.splitlines()[-1] == f"{rig.url}: {len(wanted)} written, 0 removed, 0 the same"
    rig.says("node: limpet")
    assert switch_off(rig, first) == sums(wanted | mine)

    seen = len(rig.log)
    rig.power_on()
    again = limpet("deploy", "-p", rig.port)
    assert again.out == f"{rig.port}: nothing to do, all {len(wanted)} files are the same\n"
    rig.says("node: limpet", seen)
    assert switch_off(rig, again) == sums(wanted | mine)

    rig.power_on()
    would = limpet("deploy", "-p", rig.url, "--node", NODE_FILE, "--dry-run")
    summary = f"{rig.url}: 1 would be written, 0 would be removed, {len(wanted)} the same"
    assert would.out.splitlines()[1:] == [summary]
    assert switch_off(rig, would) == sums(wanted | mine)

    rig.power_on()
    settings = limpet("deploy", "-p", rig.url, "--node", NODE_FILE)
    last = f"{rig.url}: 1 written, 0 removed, {len(wanted)} the same"
    assert [re.sub(r"\d+ bytes", "N bytes", line) for line in settings.out.splitlines()] == [
        "  limpet.json, N bytes",
        last,
    ]
    after = switch_off(rig, settings)
    assert set(after) == {*wanted, *mine, "limpet.json"}
    seen = len(rig.log)
    rig.power_on()
    rig.says("node: cannot start: identity partition is blank", seen)
    kept = limpet("deploy", "-p", rig.url)
    assert switch_off(rig, kept) == after, "settings stay without --node"


def test_only_what_differs_is_written_and_what_is_stale_goes(
    rig: Rig, wanted: dict[str, bytes], old: dict[str, bytes]
) -> None:
    changed = wanted | {
        "limpet/node.mpy": old["limpet/node.mpy"],
        "limpet/node.py": b"1 / 0  # would be taken before the byte code\n",
        "limpet/old/thing.mpy": b"x",
        f"{STAGE}/0123456789abcdef": b"of a deploy that was cut off",
        f"{STAGE}/folder/file": b"of somebody else",
        "limpet.txt": b"mine, whatever its name",
    }
    rig.power_off()
    rig.flash.write_bytes(compose(changed))
    rig.power_on()
    done = limpet("deploy", "-p", rig.url)
    assert done.out.splitlines() == [
        f"  limpet/node.mpy, {len(wanted['limpet/node.mpy'])} bytes",
        "  limpet/node.py removed",
        "  limpet/old/thing.mpy removed",
        f"{rig.url}: 1 written, 2 removed, {len(wanted) - 1} the same",
    ]
    assert switch_off(rig, done) == sums(wanted | {"limpet.txt": changed["limpet.txt"]})


def test_json_says_what_was_done(rig: Rig, wanted: dict[str, bytes], old: dict[str, bytes]) -> None:
    name = "limpet/node.mpy"
    start(rig, wanted | {name: old[name], "limpet/stale.mpy": b"x"})
    done = limpet("deploy", "-p", rig.url, "--json")
    said = json.loads(done.out)
    [board] = said.pop("boards")
    assert said == {"exit_code": 0, "dry_run": False}
    assert board.pop("sent") > len(wanted[name])
    assert board == {
        "port": rig.url,
        "written": [{"path": name, "size": len(wanted[name])}],
        "removed": ["limpet/stale.mpy"],
        "same": len(wanted) - 1,
        "error": None,
        "exit_code": 0,
    }
    assert (done.code, done.err) == (0, "")


def test_several_boards_side_by_side_and_one_that_fails(wanted: dict[str, bytes]) -> None:
    with boards_on_bench(2, flash=compose({})) as (one, other):
        done = limpet("deploy", "-p", one.url, "-p", "/dev/nope", "-p", other.url)
        nope = "The serial port '/dev/nope' does not exist: plug the board in, or name its port."
        assert (done.code, done.err) == (3, f"limpet: {nope}\n")
        for rig in (one, other):
            assert f"{rig.url}: {len(wanted)} written, 0 removed, 0 the same\n" in done.out
            assert switch_off(rig) == sums(wanted)
            rig.power_on()
        done = limpet("deploy", "--all", "--json", LIMPET_PORTS=f"{one.url} /dev/nope {other.url}")
        said = json.loads(done.out)
        assert (said["error"], said["exit_code"], done.code) == (nope, 3, 3)
        assert [board["exit_code"] for board in said["boards"] if "://" in board["port"]] == [0, 0]


def test_words_that_make_no_sense() -> None:
    one_of_two = "Name the boards' ports by --port, or take them all by --all: one of the two."
    refused(limpet("deploy"), one_of_two, code=2)
    refused(limpet("deploy", "--all", "-p", "x"), one_of_two, code=2)
    twice = "A --port stands there twice: name each board once."
    refused(limpet("deploy", "-p", "x", "-p", "x"), twice, code=2)


class Bridge:
    """A TCP server in front of a serial port. `on_limit` is called after `limit` bytes to the board, which
    gets no more, unless it `goes_on`."""

    def __init__(
        self,
        port: str,
        limit: int | None = None,
        on_limit: Callable[[], None] = lambda: None,
        goes_on: bool = False,
    ) -> None:
        self._goes_on = goes_on
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
        with suppress(AttributeError, OSError):
            self._peer.close()
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
                        self._limit = None
                        self._on_limit()
                        if not self._goes_on:
                            return
                        continue
                    self._serial.write(data)
                    self.passed += len(data)

    def _back(self) -> None:
        with suppress(OSError):
            while not self._stop.is_set():
                self._peer.sendall(self._serial.read(self._serial.in_waiting or 1))


@contextmanager
def bridge(
    port: str,
    limit: int | None = None,
    on_limit: Callable[[], None] = lambda: None,
    goes_on: bool = False,
) -> Iterator[Bridge]:
    bridge = Bridge(port, limit, on_limit, goes_on)
    try:
        yield bridge
    finally:
        bridge.close()


def interrupt(rig: Rig, how: str, limit: int) -> Done | None:
    """Let a deploy be interrupted after so many bytes to the board; how it ended, if it could."""
    gone = threading.Event()
    actions: dict[str, Callable[[], None]] = {
        "host killed": gone.set,
        "port lost": gone.set,
        "power lost": lambda: (rig.power_off(), gone.set()),  # type: ignore[dict-item,func-returns-value]
    }
    with (
        bridge(rig.port, limit, actions[how]) as cut,
        Running("deploy", "-p", cut.url) as running,
    ):
        assert gone.wait(30), (limit, running.err)
        if how == "host killed":
            running.send(signal.SIGKILL)
        elif how == "port lost":
            cut.close()
        code = running.wait()
    return None if how == "host killed" else Done(code, "\n".join(running.lines), running.err)


def test_interrupted_anywhere_the_board_boots_and_the_next_one_finishes(
    rig: Rig, wanted: dict[str, bytes], old: dict[str, bytes]
) -> None:
    before = old | {"limpet/stale.mpy": b"x"}
    start(rig, before)
    with bridge(rig.port) as whole:
        done = limpet("deploy", "-p", whole.url)
        size = whole.passed
    assert switch_off(rig, done) == sums(wanted)

    def check(rig: Rig, how: str, limit: int) -> None:
        start(rig, before)
        ended = interrupt(rig, how, limit)
        if ended:
            assert (ended.code, ended.out) == (3, ""), ended
            assert re.fullmatch(r"limpet: [^\n]+try again\.\n", ended.err), ended
        rig.power_off()
        seen = len(rig.log)
        rig.power_on()  # the power goes off and on
        rig.says("node: limpet", seen)
        assert "Traceback" not in rig.log[seen:]
        again = limpet("deploy", "-p", rig.port)
        assert switch_off(rig, again) == sums(wanted), f"{how} after {limit} of {size} bytes"

    # Looking, sending, swapping, restarting. The host waits long for what is lost: boards side by side.
    sending, swapping = size // 2, size - 60
    places = [("host killed", limit) for limit in (1000, sending, size - 300, swapping, size - 2)]
    losses = [(how, limit) for how in ("port lost", "power lost") for limit in (sending, swapping)]
    with boards_on_bench(len(losses)) as rigs, ThreadPoolExecutor() as threads:
        lost = [threads.submit(check, *each) for each in zip(rigs, *zip(*losses, strict=True), strict=True)]
        for how, limit in places:
            check(rig, how, limit)
        for each in lost:
            each.result()


def test_a_board_that_loses_its_power_for_a_moment_is_brought_up_to_date_all_the_same(
    rig: Rig, wanted: dict[str, bytes], old: dict[str, bytes]
) -> None:
    start(rig, old)
    with bridge(rig.port) as whole:
        limpet("deploy", "-p", whole.url)
        size = whole.passed
    swapping = size - 60  # in the words that ask for it, before those that restart the board
    for limit in (1500, swapping):
        start(rig, old)

        def blink() -> None:
            rig.power_off()
            rig.power_on()

        with bridge(rig.port, limit, blink, goes_on=True) as line:
            done = limpet("deploy", "-p", line.url)
        assert switch_off(rig, done) == sums(wanted)


def test_ended_by_ctrl_c_the_board_restarts_with_its_old_firmware(rig: Rig, old: dict[str, bytes]) -> None:
    start(rig, old)
    seen = len(rig.log)
    reached = threading.Event()
    with (
        bridge(rig.port, 20_000, reached.set, goes_on=True) as line,
        Running("deploy", "-p", line.url) as running,
    ):
        assert reached.wait(30)
        running.send(signal.SIGINT)
        assert running.wait() == 130
        assert (running.lines, running.err) == ([], "")
        rig.says("node: limpet", seen)
    rig.power_off()
    kept = {name: data for name, data in on_flash(rig).items() if not name.startswith(f"{STAGE}/")}
    assert kept == old


def test_a_full_filesystem_keeps_its_old_firmware_and_gets_its_room_back(
    rig: Rig, old: dict[str, bytes]
) -> None:
    before = dict(old)
    free = VFS.size - sum(-(-len(data) // 4096) * 4096 for data in before.values())
    before["mine.bin"] = bytes(free - 60_000)
    start(rig, before)
    seen = len(rig.log)
    done = limpet("deploy", "-p", rig.url)
    assert re.fullmatch(
        f"limpet: {rig.url}: the board's filesystem has no room for \\d+ more bytes: remove files of your "
        "own from it, and deploy again.\n",
        done.err,
    ), done
    assert (done.code, done.out) == (1, "")
    rig.says("node: limpet", seen)
    rig.power_off()
    assert on_flash(rig) == before


def test_a_read_only_filesystem(rig: Rig, old: dict[str, bytes]) -> None:
    boot = b"""
import esp32, vfs
part = esp32.Partition.find(esp32.Partition.TYPE_DATA, label="vfs")[0]
vfs.umount("/")
vfs.mount(vfs.VfsLfs2(part, progsize=32, readsize=32, lookahead=32), "/", readonly=True)
"""
    before = old | {"boot.py": boot}
    start(rig, before)
    refused(
        limpet("deploy", "-p", rig.url),
        f"{rig.url}: the board's filesystem is read-only: mount it writable (see its boot.py), "
        "and deploy again.",
    )
    rig.power_off()
    assert on_flash(rig) == before


def test_a_bad_node_file_leaves_the_board_alone(rig: Rig, tmp_path: Path) -> None:
    start(rig, {})
    before = (rig.board.boots, len(rig.log))
    bad = tmp_path / "bad.toml"
    bad.write_text(NODE_FILE.read_text().replace("address", "adress", 1))
    done = limpet("deploy", "-p", rig.url, "--node", bad)
    assert done.code == 1
    assert "sensors.bme280.adress: unknown key. Did you mean 'address'?" in done.err
    assert (done.out, done.err.count("limpet:"), rig.board.boots, len(rig.log)) == ("", 0, *before)


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
        f"socket://{dead}": NOBODY,
        f"rfc2217://{dead}": NOBODY,
    }.items():
        with pytest.raises(NoDeviceError) as caught:
            Repl(port)
        assert str(caught.value) == (
            f"{port} cannot be opened: {why}."
            if why
            else f"The serial port '{port}' does not exist: plug the board in, or name its port."
        )
    nope = f"{file} cannot be opened: it is no serial port; name the board's."
    refused(limpet("deploy", "-p", file), nope, code=3)


def test_a_port_that_another_program_has_open() -> None:
    master, slave = pty.openpty()
    port = os.ttyname(slave)
    fcntl.flock(slave, fcntl.LOCK_EX)
    program = Path("/proc/self/comm").read_text().strip()
    refused(
        limpet("deploy", "-p", port),
        f"{port} cannot be opened: {program} ({os.getpid()}) has it open; close that first.",
        code=3,
    )
    os.close(slave)
    os.close(master)


def test_a_port_that_says_nothing_and_one_that_babbles() -> None:
    ends = [pty.openpty(), pty.openpty()]
    ports = [os.ttyname(slave) for _, slave in ends]
    for _, slave in ends:
        tty.setraw(slave)
        os.close(slave)  # or the port would be in use
    stop = threading.Event()

    def babble(master: int) -> None:
        chance = random.Random(1)
        os.set_blocking(master, False)
        while not stop.wait(0.001):
            with suppress(OSError):
                os.write(master, chance.randbytes(64))
            with suppress(OSError):  # nothing to read, or nobody there
                os.read(master, 4096)

    thread = threading.Thread(target=babble, args=(ends[1][0],), daemon=True)
    thread.start()
    with Running("deploy", "-p", ports[0]) as silent, Running("deploy", "-p", ports[1]) as babbling:
        for port, running in zip(ports, (silent, babbling), strict=True):
            assert running.wait() == 3
            assert running.lines == []
            assert re.fullmatch(
                f"limpet: {port}: no MicroPython answers \\([^\\n]+\\); see that it is the board's port, and "
                "that the board runs MicroPython.\n",
                running.err,
            ), running.err
    stop.set()
    thread.join()
    for master, _ in ends:
        os.close(master)
