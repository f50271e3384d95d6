"""`limpet image build` from the shell: what it writes, the same each time, and what it leaves alone."""

import fcntl
import hashlib
import json
import os
import resource
import subprocess
import tomllib
from pathlib import Path

import pytest

from host_tools import boards, image, partitions, paths
from host_tools.pki import partition as identity
from tests.host import shell
from tests.host.in_process import limpet
from tests.host.official import official
from tests.host.shell import DEADLINE, LIMPET, environment, refused
from tests.host.stand import Stand

EXAMPLE = paths.ROOT / "docs" / "node.example.toml"
PASSWORD = tomllib.loads(EXAMPLE.read_text())["wifi"][0]["password"]
BOARD = boards.load_board("virtual")
VIRTUAL = ("image", "build", "--board", "virtual", "-o")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_image_with_everything_in_it(tmp_path: Path) -> None:
    out = tmp_path / "board.bin"
    stock = official("esp32")
    node = tmp_path / "node.toml"
    node.write_text(EXAMPLE.read_text().replace('board = "virtual"', 'board = "esp32_generic"'))
    words = ("-b", "esp32_generic", "--node", node, "--micropython", stock, "-o", out)
    done = shell.limpet("image", "build", *words)
    assert (done.code, done.err) == (0, "")
    count = len(image.firmware_files())
    assert done.out == (
        f"{out}: 4 MiB for 'esp32_generic', MicroPython 1.27.0, {count} files of firmware, with settings; "
        f"SHA-256 {sha256(out)}\n"
    )
    flash = out.read_bytes()
    assert flash[0x1000:0x8000] == stock.read_bytes()[:0x7000]
    assert PASSWORD.encode() in flash
    assert out.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"board.bin", "node.toml"}
    assert image.regions(boards.load_board("esp32_generic"), flash)


def test_the_same_input_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    seen = set()
    for seed in ("0", "1", "4242"):
        out = tmp_path / f"{seed}.bin"
        done = shell.limpet(
            *VIRTUAL, out, "--node", EXAMPLE, "--json", PYTHONHASHSEED=seed, TZ=f"UTC+{len(seed)}", LC_ALL="C"
        )
        assert done.code == 0, done.err
        said = json.loads(done.out)
        assert said["sha256"] == sha256(out)
        seen.add(said["sha256"])
    assert len(seen) == 1
    assert said == {
        "file": str(out),
        "board": "virtual",
        "bytes": 0x400000,
        "sha256": sha256(out),
        "micropython": None,
        "firmware_files": len(image.firmware_files()),
        "settings": True,
    }


def test_a_virtual_board_boots_it(tmp_path: Path) -> None:
    out = tmp_path / "board.bin"
    assert limpet(*VIRTUAL, out).code == 0
    with Stand(tmp_path) as stand:
        node = stand.node(files={}, identity=b"")
        node.flash.write_bytes(out.read_bytes())
        node.start().says("limpet ")


def test_what_limpet_built_before_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "board.bin"
    out.touch()
    assert limpet(*VIRTUAL, out).code == 0
    first = sha256(out)
    out.chmod(0o644)
    assert limpet(*VIRTUAL, out, "--node", EXAMPLE).code == 0
    assert sha256(out) != first
    assert out.stat().st_mode & 0o777 == 0o600
    link = tmp_path / "link.bin"
    link.symlink_to(out)
    assert limpet(*VIRTUAL, link).code == 0
    assert link.is_symlink()
    assert sha256(out) == first


def flash_with(name: str, data: bytes) -> bytes:
    flash = bytearray(image.compose(BOARD, {}))
    place = partitions.find(BOARD.partition_table(), name)
    flash[place.offset : place.offset + len(data)] = data
    return bytes(flash)


PRECIOUS = {
    "a text": EXAMPLE.read_bytes(),
    "no image": bytes(0x400000),
    "an identity": flash_with(
        "identity", identity.encode(identity.Identity("n01", b"key", (b"c",), (b"ca",)))
    ),
    "a spool": flash_with("spool", b"LPSP"),
    "nvs": flash_with("nvs", b"\0"),
}


@pytest.mark.parametrize("what", PRECIOUS)
def test_anything_else_that_is_there_is_left_alone(tmp_path: Path, what: str) -> None:
    out = tmp_path / "precious"
    out.write_bytes(PRECIOUS[what])
    sentence = (
        f"{out} is there already, and is no image as 'limpet image build' makes it: name another file, or "
        "remove this one."
    )
    refused(limpet(*VIRTUAL, out), sentence, code=4)
    assert out.read_bytes() == PRECIOUS[what]


def test_targets_that_do_not_do(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    no_file = "is not a file: name another, and flash a board by 'limpet flash'."
    refused(limpet(*VIRTUAL, tmp_path), f"{tmp_path} is a folder: name a file in it.")
    refused(limpet(*VIRTUAL, tmp_path / "fifo"), f"{tmp_path / 'fifo'} {no_file}", code=4)
    refused(limpet(*VIRTUAL, "/dev/null"), f"/dev/null {no_file}", code=4)
    missing = tmp_path / "none" / "board.bin"
    refused(limpet(*VIRTUAL, missing), f"There is no folder {missing.parent}: make it, or name another file.")
    taken = tmp_path / "taken.bin"
    taken.write_bytes(image.compose(BOARD, {}))
    with taken.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sentence = f"{taken} is the flash of a virtual board that runs: end that one, or name another file."
        refused(limpet(*VIRTUAL, taken), sentence, code=4)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "board.bin"
    out.touch()
    done = subprocess.run(
        [LIMPET, *VIRTUAL, str(out)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert (done.returncode, done.stderr) == (1, f"limpet: {out} cannot be written: File too large.\n")
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("board.bin", 0)]


def test_what_is_wrong_is_told_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "board.bin"
    page = tmp_path / "page.bin"
    page.write_text("<!DOCTYPE html><html><head><title>404</title></head></html>")
    build = ("image", "build", "-o", out, "--board")
    refused(
        limpet(*build, "esp32_generic", "--micropython", page),
        f"{page} is an HTML page, such as a web site's error message, no image of MicroPython: fetch the "
        "image itself.",
        code=4,
    )
    other = official("esp32c3")
    refused(
        limpet(*build, "esp32_generic", "--any-micropython", "--micropython", other),
        f"{other} is no whole image of MicroPython for the ESP32 (it is for the ESP32-C3, not for the ESP32"
        "): fetch the right one again.",
        code=4,
    )
    refused(
        limpet(*build, "esp32_generic", "--node", EXAMPLE, "--micropython", official("esp32")),
        f"{EXAMPLE} is for board 'virtual', not for 'esp32_generic': name the same one in both.",
    )
    done = limpet(*build, "esp32_generic", "--json", LIMPET_MICROPYTHON_IMAGES=str(tmp_path))
    said = json.loads(done.out)
    assert (done.code, said["exit_code"]) == (1, 1)
    assert said["error"].endswith("does not exist: name the image of MicroPython.")
    bad = tmp_path / "bad.toml"
    bad.write_text(EXAMPLE.read_text().replace("period", "perriod"))
    done = limpet(*build, "virtual", "--node", bad)
    assert (done.code, "unknown key. Did you mean 'period'?" in done.err) == (1, True)
    assert PASSWORD not in done.err + done.out
    assert limpet("image", "build", "--board", "virtual").code == 2
    assert not out.exists()


def test_warnings_of_the_node_file_are_told(tmp_path: Path) -> None:
    node = tmp_path / "node.toml"
    node.write_text(EXAMPLE.read_text().replace("pin = 4\n", "pin = 12\n"))
    checked = limpet("config", "check", node)
    assert checked.code == 0
    assert checked.err
    assert limpet(*VIRTUAL, tmp_path / "board.bin", "--node", node).err == checked.err
