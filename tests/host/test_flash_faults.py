"""Flashing boards that have a fault: what can be mended is, the rest is told, and the other boards go on."""

from pathlib import Path

import pytest

from host_tools import boards, partitions
from host_tools.virtual.line_faults import LineFaults
from tests.host.flashing import NEW_SAYS, bench, composed, expected, flash, used
from tests.host.shell import Running

PROGRAM = 0x30000
VFS = partitions.find(boards.load_board("virtual").partition_table(), "vfs")


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "virtual.bin"
    path.write_bytes(composed(program=PROGRAM))
    return path


def test_faults_side_by_side(tmp_path: Path, image_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, wanted = used(), composed(program=PROGRAM)
    with bench(tmp_path) as put:
        brownout, slow_cable, slow_flash, healthy = (put(before) for _ in range(4))
        read_only, read_only_blank, deaf = put(before), put(), put(before)
        brownout.board.flash_chip.brownout = PROGRAM // 2
        slow_cable.board.faults.max_baud = 500_000
        slow_flash.board.flash_chip.slow = 1.0
        for rig in (read_only, read_only_blank):
            rig.board.flash_chip.read_only = True
        deaf.board.faults.deaf = True
        panics = put(before)
        words = b"Guru Meditation Error: Core 0 panic'ed\x1b[0m\r\n"
        monkeypatch.setattr(panics.board, "_start", lambda cause: panics.board._printed(words))
        mended = (brownout, slow_cable, slow_flash, healthy)
        beyond = (read_only, read_only_blank, deaf)
        held = [rig.flash.read_bytes() for rig in beyond]
        done = flash([rig.url for rig in (*mended, *beyond, panics)], image_file)

        assert done.codes == [0, 0, 0, 0, 5, 5, 3, 5], done.err
        assert done.code == 1  # they failed for different reasons
        for rig in mended:
            assert rig.flash.read_bytes() == expected(before, wanted)
            rig.says(NEW_SAYS)
        assert brownout.log.count("Brownout detector was triggered") == 1
        for rig in (brownout, slow_cable):
            remarks = [line for line in done.err.splitlines() if line.startswith(rig.url) and "again" in line]
            assert len(remarks) == 1
            assert remarks[0].endswith("; trying again at 460800 baud")
        assert [rig.flash.read_bytes() for rig in beyond] == held
        for board in done.boards[4:6]:
            assert "its flash does not take what is written" in board["error"]
        assert "no ESP32 answers in its bootloader" in done.boards[6]["error"]
        assert panics.flash.read_bytes() == expected(before, wanted)
        error = done.boards[7]["error"]
        assert error.startswith(f"{panics.url}: it does not start what was written: it says no more than '")
        assert error.endswith("Guru Meditation Error: Core 0 panic'ed[0m'.")
        assert done.report["error"] == "\n".join(board["error"] for board in done.boards[4:])


def test_a_bit_that_falls_after_it_was_verified(tmp_path: Path, image_file: Path) -> None:
    """All is looked at once more before the board may start; what is wrong is written again."""
    before, wanted = used(), composed(program=PROGRAM)
    with bench(tmp_path) as put:
        rig = put(before)
        chip = rig.board.flash_chip
        program = chip.program
        fallen: list[float] = []

        def on_program(offset: int, data: bytes) -> float:
            if offset >= VFS.offset and not fallen:
                fallen.append(program(0x10100, bytes(4)))
            return program(offset, data)

        chip.program = on_program  # type: ignore[method-assign]
        done = flash([rig.url], image_file)
        assert (done.code, len(fallen)) == (0, 1)
        assert f"{rig.url}: what was written does not read back; trying again at 460800 baud" in done.err
        assert rig.flash.read_bytes() == expected(before, wanted)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_a_line_that_garbles_whatever_it_carries(tmp_path: Path, image_file: Path, seed: int) -> None:
    """It works in the end or it does not, but never without a sentence, and never to a wrong flash."""
    before = used()
    with bench(tmp_path) as put:
        rigs = [
            put(before, faults=LineFaults(garble=rate, drop=rate / 10, seed=seed))
            for rate in (1e-5, 1e-4, 1e-2)
        ]
        done = flash([rig.url for rig in rigs], image_file)
        for rig, board in zip(rigs, done.boards, strict=True):
            if board["exit_code"] == 0:
                assert rig.flash.read_bytes() == expected(before, composed(program=PROGRAM))
            else:
                assert board["error"].endswith("try again.") or board["exit_code"] in (3, 5)


def test_nothing_there(image_file: Path, tmp_path: Path) -> None:
    for port, sentence in {
        "/dev/none": "The serial port '/dev/none' does not exist: plug the board in, or name its port.",
        str(tmp_path): f"{tmp_path} cannot be opened: it is a folder; name the board's port.",
        "rfc2217://127.0.0.1:9": "rfc2217://127.0.0.1:9 cannot be opened: nothing listens "
        "there, or another program has it; start the server, or close that program.",
    }.items():
        done = flash([port], image_file)
        assert (done.code, done.report["error"]) == (3, sentence)


def test_two_commands_at_one_board(tmp_path: Path, image_file: Path) -> None:
    with bench(tmp_path) as put:
        rig = put(paced=True)
        with Running("flash", "--board", "virtual", "--image", image_file, "--port", rig.url) as first:
            rig.says("waiting for download")
            second = flash([rig.url], image_file)
            assert (second.code, "or another program has it" in second.report["error"]) == (3, True)
            assert first.wait() == 0
        assert rig.flash.read_bytes() == expected(b"\xff" * 0x400000, composed(program=PROGRAM))
