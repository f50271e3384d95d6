"""What the shell shows: help, wrong words, wrong files, and a machine that lacks something."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from host_tools import parts, paths
from tests.host import shell
from tests.host.in_process import limpet
from tests.host.shell import DEADLINE, LIMPET, Running, refused

COMMANDS = [
    "",
    "demo",
    "virtual",
    "virtual fault",
    "deploy",
    "doctor",
    "config",
    "config check",
    "spool",
    "spool dump",
]
EXAMPLE = paths.ROOT / "docs" / "node.example.toml"
DEAD_INDEX = "http://127.0.0.1:9/simple"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_it_does_in_80_columns(command: str) -> None:
    done = limpet(*command.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Usage: limpet {command}".strip() in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert limpet(*command.split(), "-h").out == done.out


@pytest.mark.parametrize("command", ["", "config", "spool"])
def test_without_a_command_it_helps_and_that_was_no_use(command: str) -> None:
    done = limpet(*command.split())
    assert (done.code, "Commands" in done.out + done.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("frobnicate", "No such command 'frobnicate'."),
        ("demo --reading 3", "No such option: --reading"),
        ("demo --readings 0", "Invalid value for '--readings'"),
        ("demo --readings many", "Invalid value for '--readings'"),
        ("demo --broker hive", "Invalid value for '--broker'"),
        ("demo more", "unexpected extra argument"),
        ("deploy", "Name the boards' ports by --port"),
        ("virtual --count 0", "Invalid value for '--count'"),
        ("virtual --port 0", "Invalid value for '--port'"),
        ("virtual nonsense", "No such command 'nonsense'."),
        ("virtual fault", "Missing argument"),
        ("config check", "Missing argument"),
        ("spool dump", "Missing argument"),
    ],
)
def test_wrong_words_are_told_with_exit_code_2(words: str, seen: str) -> None:
    done = limpet(*words.split())
    assert (done.code, done.out) == (2, "")
    assert seen in " ".join(done.err.split())


def test_version() -> None:
    assert shell.limpet("--version").out == "limpet 0.1.0\n"


# config check


def test_a_good_node_file() -> None:
    done = shell.limpet("config", "check", EXAMPLE)
    assert (done.code, done.out) == (0, f"{EXAMPLE}: good, 3 sensors on board 'virtual'\n")


def test_node_files_that_are_not_even_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'board = "\xe9"\n')
    (tmp_path / "big").write_bytes(b"#" * 70_000)
    (tmp_path / "broken").write_text("board = \n")
    os.mkfifo(tmp_path / "fifo")
    for name, seen in {
        "none": "none: there is no such file. Check the name and the folder.",
        ".": "this is a folder. Name the file in it.",
        "latin": "latin:1: ",
        "big": "big: the file has more than 64 kB. Name the right one.",
        "broken": "broken:1: ",
    }.items():
        done = limpet("config", "check", tmp_path / name)
        assert (done.code, done.out) == (1, ""), name
        assert seen in done.err, name
        assert "Traceback" not in done.err


def test_every_problem_of_a_node_file_is_told_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'board = "virtual"\nkeepalive = "soon"\n[[wifi]]\nssid = "plant"\npasword = "very-secret"\n'
        '[[broker]]\nhost = "10.0.0.5"\n[sensors.bme280]\nadress = 0x76\n'
    )
    done = limpet("config", "check", file)
    assert (done.code, done.out) == (1, "")
    assert f"{file}:5: wifi[0].pasword: unknown key. Did you mean 'password'?" in done.err.splitlines()
    assert f"{file}:9: sensors.bme280.adress: unknown key. Did you mean 'address'?" in done.err.splitlines()
    assert f"{file}:2: keepalive:" in done.err
    assert "very-secret" not in done.err


# virtual: words that cannot be carried out; tests/host/test_cli_virtual.py has its folders


def test_words_for_virtual_boards_that_do_not_go_together() -> None:
    both = "--log shows text and --json is for programs: choose one of them."
    done = shell.limpet("virtual", "--log", "--json")
    assert (done.code, done.err) == (2, f"limpet: {both}\n")
    too_high = "2 boards from port 65535 on need ports above 65535: begin lower."
    refused(limpet("virtual", "--count", "2", "--port", "65535"), too_high, code=2)
    unknown = "There is no board 'virtuel'. Did you mean 'virtual'?"
    refused(limpet("virtual", "--board", "virtuel"), unknown, code=2)


# What a machine may lack. `doctor` says the same in tests/host/test_cli_doctor.py.


@pytest.mark.parametrize("command", ["demo", "virtual"])
def test_no_micropython(command: str, tmp_path: Path) -> None:
    sentence = "LIMPET_MICROPYTHON names {}, which is not a program: set it to a MicroPython unix binary."
    for name in ("/nonexistent", str(tmp_path)):
        refused(shell.limpet(command, LIMPET_MICROPYTHON=name), sentence.format(name))
    true = shutil.which("true") or "true"
    refused(
        shell.limpet(command, LIMPET_MICROPYTHON=true, TMPDIR=str(tmp_path)),
        f"{true} does not run as a MicroPython that can serve (no output): check LIMPET_MICROPYTHON.",
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["demo", "virtual"])
def test_no_network_and_nothing_kept(command: str, tmp_path: Path) -> None:
    done = shell.limpet(command, XDG_CACHE_HOME=str(tmp_path), PIP_INDEX_URL=DEAD_INDEX, TMPDIR=str(tmp_path))
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == [
        "Fetching micropython-umqtt.simple 1.3.4, once.",
        "limpet: Cannot fetch micropython-umqtt.simple 1.3.4 from the package index (ConnectionError); "
        "connect this machine to the network, or set PIP_INDEX_URL to an index within reach, and try again.",
    ]
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("command", ["demo", "virtual"])
def test_a_cache_that_cannot_be_written(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = shell.limpet(command, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(
        "limpet: Cannot keep micropython-umqtt.simple in the cache folder: Not a directory"
    )
    assert done.err.endswith("or name another folder by XDG_CACHE_HOME.\n")


def test_without_network_a_kept_part_serves(tmp_path: Path) -> None:
    for part in (parts.UMQTT_SIMPLE, parts.WEATHER):
        kept = parts.fetch(part)
        copy = tmp_path / "limpet" / "parts" / part.top / part.member
        copy.parent.mkdir(parents=True)
        shutil.copy(kept, copy)
    with Running("virtual", XDG_CACHE_HOME=str(tmp_path), PIP_INDEX_URL=DEAD_INDEX) as running:
        assert running.line().startswith("rfc2217://127.0.0.1:")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [LIMPET, "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["doctor", "demo --readings 3"])
def test_output_that_nobody_reads(words: str) -> None:
    read, write = os.pipe()
    os.close(read)
    with Running(*words.split(), stdout=write) as running:
        os.close(write)
        running.wait()
        assert "Traceback" not in running.err
        assert "Exception" not in running.err
        assert not running.left()
