"""The rung of emulators, with the official image of MicroPython, and a program of the tests in the place of
QEMU and esp-emu (tests/host/playing_emulator.py): these two themselves are not here."""

import sys
from pathlib import Path

import pytest

from host_tools import boards
from host_tools.hil.blocked import Blocked
from host_tools.hil.board import HilError, open_board
from host_tools.hil.node import Node
from host_tools.hil.timeline import Timeline
from tests.host.hil_nodes import node_image, rig_file
from tests.host.official import VERSION, official

STARTED = "I am 'n01'"
CHIPS = {"qemu": ("esp32", "esp32_generic"), "esp-emu": ("esp32c3", "esp32c3_generic")}


def program(folder, text):
    """A program that is called like an emulator."""
    path = folder / "emulator"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def rig(folder, kind, path=None):
    _, board = CHIPS[kind]
    named = f', program = "{path}"' if path else ""
    return rig_file(
        folder, f'rung = "emulator"\nboard = "{board}"\nemulator = {{ kind = "{kind}"{named} }}\n', "emulated"
    )


@pytest.fixture(scope="module", params=CHIPS)
def node(request, tmp_path_factory):
    """A node in either emulator."""
    folder = tmp_path_factory.mktemp("emulator")
    root = Path(__file__).parents[2]
    path = program(folder, f'cd {root} && exec {sys.executable} -m tests.host.playing_emulator "$@"')
    chip, name = CHIPS[request.param]
    board = open_board(rig(folder, request.param, path), Timeline())
    try:
        made = Node(board, Timeline(), "node")
        made.install(node_image(boards.load_board(name), micropython=official(chip).read_bytes()))
        yield made
    finally:
        board.close()


def test_the_whole_boot_is_heard(node):
    node.says(STARTED)
    assert node.log.after(node.log.since).lstrip().startswith(("ets ", "ESP-ROM"))
    assert node.log.after(node.log.since).count("node: limpet") == 1
    assert node.answers() == "n01"


def test_it_has_what_a_board_has(node):
    board = node._board
    assert (board.rung, board.mac, board.micropython) == ("emulator", "", VERSION)
    assert (board.power, board.radio, board.network) == (None, None, None)
    assert board.port.startswith("socket://127.0.0.1:")


def test_a_reset_keeps_the_flash_and_an_installation_does_not(node):
    with node.repl() as stopped:
        stopped.files.write("notes.txt", b"notes")
        assert stopped.eval("6 * 7") == 42
    node.says(STARTED)
    node.reset()
    node.says(STARTED)
    assert node.log.after(node.log.since).lstrip().startswith(("ets ", "ESP-ROM"))
    assert "notes.txt" in node.files.list()
    node.configure(keepalive=7)
    node.says(STARTED)
    assert "notes.txt" not in node.files.list()


@pytest.mark.parametrize(
    ("kind", "name", "remedy"),
    [
        ("qemu", "qemu-system-xtensa", "install a release of github.com/espressif/qemu, or 'idf_tools.py"),
        ("esp-emu", "esp-emu", "install a release of github.com/espressif/esp-emulator; or name it by"),
    ],
)
def test_without_the_program_a_rig_is_blocked(kind, name, remedy, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Blocked) as blocked:
        open_board(rig(tmp_path, kind), Timeline())
    assert str(blocked.value).startswith(f"There is no program '{name}', on this machine's PATH: {remedy}")
    path = tmp_path / "elsewhere"
    with pytest.raises(Blocked, match=f"There is no program '{path}', as the rig file names it: "):
        open_board(rig(tmp_path, kind, path), Timeline())


def test_a_program_that_ends_is_told(tmp_path):
    path = program(tmp_path, "echo 'no such machine: esp32.' >&2; exit 3")
    board = open_board(rig(tmp_path, "qemu", path), Timeline())
    try:
        with pytest.raises(HilError, match=r"^The emulator does not run before something is installed"):
            board.reset()
        with pytest.raises(HilError) as error:
            board.install(node_image(boards.load_board("esp32_generic"), stand_in=True))
        assert str(error.value) == f"'{path}' ended with exit code 3: no such machine: esp32."
    finally:
        board.close()
