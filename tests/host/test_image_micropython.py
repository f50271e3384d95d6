"""MicroPython's image: fetched from a site on loopback, checked and kept; any other is refused."""

import contextlib
import hashlib
import os
import pty
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from host_tools import boards
from host_tools.boards import Board
from host_tools.image import ImageError, ImageRefusedError, download, micropython_image
from tests.host.official import official
from tests.host.shell import DEADLINE, LIMPET, Running, environment, limpet
from tests.host.stand import wait_until

BOARD = boards.load_board("esp32_generic")
assert BOARD.micropython is not None
NAME = BOARD.micropython.name
ELSEWHERE = "connect this machine to the network, or fetch the file elsewhere and name it by --micropython."

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """A web site on loopback, and the paths that it was asked for."""

    url: str
    answer: Answer
    asked: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)


def sends(data: bytes, status: int = 200, length: int | None = None, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)

    return answer


@pytest.fixture(scope="module")
def good() -> bytes:
    return official("esp32").read_bytes()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "limpet" / "micropython"


@pytest.fixture
def site(cache: Path, good: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            with contextlib.suppress(OSError):
                made.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_port}/firmware/", sends(good))
    monkeypatch.setenv("LIMPET_MICROPYTHON_IMAGES", made.url)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.stopped.set()
    server.shutdown()
    thread.join()
    server.server_close()


def kept(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_it_is_fetched_once_with_progress_and_kept(site: Site, cache: Path, good: bytes) -> None:
    told: list[tuple[str, int, int | None]] = []

    def progress(name: str, done: int, total: int | None) -> None:
        told.append((name, done, total))

    assert micropython_image(BOARD, progress=progress) == good
    assert site.asked == [f"/firmware/{NAME}"]
    assert kept(cache) == [NAME]
    assert told[0] == (NAME, 0, len(good))
    assert told[-1] == (NAME, len(good), len(good))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    told.clear()
    assert micropython_image(BOARD, progress=progress) == good
    assert (len(site.asked), told) == (1, [])


def test_one_fetched_by_hand_and_put_into_the_cache_needs_no_network(cache: Path, good: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(good)
    assert micropython_image(BOARD) == good


def test_a_damaged_cache_is_mended(site: Site, cache: Path, good: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(good[:-1] + b"x")
    assert micropython_image(BOARD) == good
    assert (cache / NAME).read_bytes() == good


def test_a_redirect_is_followed(site: Site, good: bytes) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/firmware"):
            sends(b"", 302, Location="/elsewhere.bin")(request)
        else:
            sends(good)(request)

    site.answer = answer
    assert micropython_image(BOARD) == good
    assert site.asked == [f"/firmware/{NAME}", "/elsewhere.bin"]


def test_a_length_that_is_not_told_is_no_matter(site: Site, good: bytes) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(good)

    site.answer = answer
    assert micropython_image(BOARD) == good


def endless(request: BaseHTTPRequestHandler) -> None:
    sends(b"", 302, Location=request.path)(request)


def too_long(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"x" * 65536)


def hangs_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)


def no_http(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")


FAILURES: dict[str, tuple[Answer, str]] = {
    "404": (sends(b"<html>not here</html>", 404), "which answers 404 Not Found"),
    "500": (sends(b"", 500), "which answers 500 Internal Server Error"),
    "truncated": (
        sends(b"\xe9" * 5000, length=9000),
        r"which (sent 5000 bytes instead of 9000|ended the .*)",
    ),
    "redirects": (endless, "which redirects for ever"),
    "redirects to a file": (sends(b"", 302, Location="file:///etc/passwd"), "whose address makes no sense"),
    "endless": (too_long, "whose file is larger than the flash, 4194304 bytes"),
    "too large": (sends(b"", length=5000000), "whose file has 5000000 bytes, more than the flash"),
    "hangs up": (hangs_up, "which is not within reach"),
    "no HTTP": (no_http, "which is not within reach"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_cannot_be_fetched_is_one_sentence(site: Site, cache: Path, failure: str) -> None:
    site.answer, reason = FAILURES[failure]
    with pytest.raises(ImageError, match=rf"^Cannot fetch {NAME} from 127\.0\.0\.1, {reason}; {ELSEWHERE}$"):
        micropython_image(BOARD)
    assert kept(cache) == []


@pytest.mark.parametrize("sent", [0, 70000])
def test_a_site_that_stalls_has_a_deadline(
    site: Site, cache: Path, good: bytes, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if sent:
            sends(good[:sent], length=len(good))(request)
            request.wfile.flush()
        site.stopped.wait(60)

    site.answer = answer
    monkeypatch.setattr(download, "_SILENCE_S", 0.3)
    with pytest.raises(
        ImageError, match=rf"^Cannot fetch {NAME} from 127\.0\.0\.1, which does not answer within"
    ):
        micropython_image(BOARD)
    assert kept(cache) == []


def test_a_site_that_dribbles_has_a_deadline_too(
    site: Site, cache: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        sends(b"", length=len(good))(request)
        for byte in good:
            request.wfile.write(bytes([byte]))
            request.wfile.flush()
            if site.stopped.wait(0.02):
                return

    site.answer = answer
    monkeypatch.setattr(download, "_WHOLE_S", 0.3)
    with pytest.raises(ImageError, match=r"127\.0\.0\.1, which takes more than 0 minutes; connect"):
        micropython_image(BOARD)
    assert kept(cache) == []


@pytest.mark.parametrize(
    "url", ["http://me:s3cr3t@127.0.0.1:1/x", "http://s3cr3t[", "https://127.0.0.1:1/s3cr3t"]
)
def test_offline_is_one_sentence_without_the_address(
    cache: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("LIMPET_MICROPYTHON_IMAGES", url)
    with pytest.raises(ImageError) as caught:
        micropython_image(BOARD)
    text = str(caught.value)
    assert text.startswith(f"Cannot fetch {NAME} from ")
    assert "s3cr3t" not in text
    assert caught.value.__suppress_context__


def test_what_is_not_the_pinned_image_is_refused_and_not_kept(site: Site, cache: Path, good: bytes) -> None:
    tampered = bytearray(good)
    tampered[0x20000 - 0x1000 - 1] ^= 1
    longer = good + bytes(16)
    gave = rf"^What 127\.0\.0\.1 gave for {NAME} is "
    no_image = rf"{gave}no whole image of MicroPython for the ESP32 \("
    for data, sentence in {
        b"": rf"{gave}empty; nothing was kept: {ELSEWHERE}$",
        b"<!doctype html>\n<html>": rf"{gave}an HTML page, such as a web site's error message; nothing was ",
        b"\n <HTML>": rf"{gave}an HTML page, ",
        b"\x1f\x8b\x08": rf"{gave}a gzip archive; nothing was kept: ",
        b"Moved.": rf"{gave}a text; nothing was kept: ",
        good[:100_000]: rf"{no_image}it is cut short, within segment 1 of",
        bytes(tampered): rf"{no_image}its checksum does not fit",
        official("esp32c3").read_bytes(): rf"{no_image}it is for the ESP32-C3, not for the ESP32\)",
        longer: rf"{gave}another image than the pinned one \(SHA-256 {sha256(longer)}, not ",
    }.items():
        site.answer = sends(data)
        with pytest.raises(ImageRefusedError, match=sentence):
            micropython_image(BOARD)
        assert kept(cache) == []


def test_a_folder_may_stand_for_the_site(
    cache: Path, good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_MICROPYTHON_IMAGES", str(tmp_path))
    with pytest.raises(ImageError, match=rf"/{NAME} does not exist: name the image of MicroPython\.$"):
        micropython_image(BOARD)
    (tmp_path / NAME).write_bytes(good)
    assert micropython_image(BOARD) == good
    (tmp_path / NAME).write_bytes(good[:-1])
    with pytest.raises(
        ImageRefusedError, match=rf"/{NAME} is no whole image of MicroPython for the ESP32 \("
    ):
        micropython_image(BOARD)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cannot = f"Cannot keep {NAME} in the cache folder: Not a directory"
    with pytest.raises(ImageError, match=rf"^{cannot} \(.*\); make room and .* XDG_CACHE_HOME\.$"):
        micropython_image(BOARD)


# On the command line


def test_elsewhere_than_on_a_terminal_lines_tell_of_the_download(
    site: Site, tmp_path: Path, good: bytes
) -> None:
    words = ("image", "build", "--board", "esp32_generic", "-o", tmp_path / "a.bin")
    done = limpet(*words)
    assert done.code == 0, done.err
    lines = done.err.splitlines()
    assert lines[0] == f"Fetching {NAME}, {len(good)} bytes, once."
    assert lines[-1] == f"{NAME}: 100 %"
    assert len(lines) <= 5
    again = limpet(*words)
    assert (again.code, again.err, again.out) == (0, "", done.out)


def test_on_a_terminal_a_bar_tells_of_it(site: Site, tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    words = [LIMPET, "image", "build", "--board", "esp32_generic", "-o", str(tmp_path / "a.bin")]
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env=environment(TERM="xterm", COLUMNS="120"),
    )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert process.wait(DEADLINE) == 0
    text = shown.decode()
    assert NAME in text
    assert "1.8/1.8 MB" in text
    assert "Fetching" not in text


def test_ctrl_c_ends_a_download_and_keeps_nothing(
    site: Site, cache: Path, tmp_path: Path, good: bytes
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        sends(good[:200_000], length=len(good))(request)
        request.wfile.flush()
        site.stopped.wait(60)

    site.answer = answer
    with Running("image", "build", "--board", "esp32_generic", "-o", tmp_path / "a.bin") as running:
        wait_until(lambda: f"Fetching {NAME}" in running.err, "the download")
        running.send(signal.SIGINT)
        assert running.wait() == 130
    assert kept(cache) == []
    assert not (tmp_path / "a.bin").exists()


# A file of one's own


def test_the_pinned_image_in_a_file_is_taken_whatever_its_name(tmp_path: Path, good: bytes) -> None:
    (tmp_path / "mine").write_bytes(good)
    assert micropython_image(BOARD, tmp_path / "mine") == good


def test_another_image_is_taken_only_when_that_is_said(tmp_path: Path, good: bytes) -> None:
    own = tmp_path / "own.bin"
    own.write_bytes(good + b"\xff" * 16)
    with pytest.raises(ImageRefusedError) as refused:
        micropython_image(BOARD, own)
    assert BOARD.micropython is not None
    assert str(refused.value) == (
        f"{own} is not {NAME}, which 'esp32_generic' asks for (SHA-256 {sha256(own.read_bytes())}, not "
        f"{BOARD.micropython.sha256}): if you trust it, add --any-micropython."
    )
    assert micropython_image(BOARD, own, any_micropython=True) == own.read_bytes()


@pytest.mark.parametrize("trusted", [False, True])
def test_a_file_that_the_chip_cannot_run_is_refused_all_the_same(
    tmp_path: Path, good: bytes, trusted: bool
) -> None:
    own = tmp_path / "own.bin"
    for data, sentence in {
        b"": "is empty, no image of MicroPython: fetch it again.",
        b"<html>": "is an HTML page, such as a web site's error message, no image of MicroPython: fetch",
        good[:-1]: r"is no whole image of MicroPython for the ESP32 \(it is cut short, and should have ",
        official(
            "esp32s3"
        ).read_bytes(): r"\(it is for the ESP32-S3, not for the ESP32\): fetch the right one",
        good[0xF000:]: r"ESP32 \(There is no partition table here",
    }.items():
        own.write_bytes(data)
        with pytest.raises(ImageRefusedError, match=sentence):
            micropython_image(BOARD, own, any_micropython=trusted)


def test_a_board_that_pins_nothing_needs_nothing_and_trusts_nothing(tmp_path: Path, good: bytes) -> None:
    virtual: Board = boards.load_board("virtual")
    assert micropython_image(virtual) is None
    (tmp_path / "mine").write_bytes(good)
    with pytest.raises(
        ImageRefusedError, match=r"mine cannot be checked, because 'virtual' names no image \(its"
    ):
        micropython_image(virtual, tmp_path / "mine")
    assert micropython_image(virtual, tmp_path / "mine", any_micropython=True) == good


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    for path, sentence in {
        tmp_path / "none": "none does not exist: name the image of MicroPython.",
        tmp_path: "is a folder: name the image of MicroPython in it.",
        Path("/dev/zero"): "/dev/zero is not a file: name the image of MicroPython.",
    }.items():
        with pytest.raises(ImageError, match=sentence):
            micropython_image(BOARD, path)
