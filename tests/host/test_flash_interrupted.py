"""Flashing that is cut off at each of its steps: flashed again, the board ends as if nothing had happened.

Meanwhile it runs its old firmware, its new one, or nothing; never some of each.
"""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from host_tools import boards, partitions
from tests.host.flashing import NEW_SAYS, OLD_SAYS, bench, composed, expected, flash, used
from tests.host.shell import Running
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig

TABLE = partitions.TABLE_OFFSET
APP = 0x10000
PROGRAM = 0x30000
_VFS = partitions.find(boards.load_board("virtual").partition_table(), "vfs").offset
STEPS = ("connecting", "erasing", "erased", "writing", "verifying", "before the table", "starting")
OLD_RUNS = ("connecting", "erasing")
"""Steps at which the old firmware is whole."""


class Moment:
    """Calls `act` on the board, in the middle of whatever it does, when flashing is at `step`; once."""

    def __init__(self, rig: Rig, step: str, act: Callable[[Rig], None]) -> None:
        self.come = threading.Event()
        self._rig = rig
        self._act = act
        self._programmed = False
        chip = rig.board.flash_chip
        said, erase, program, read = rig.board.output, chip.erase, chip.program, chip.read
        assert said is not None

        def on_output(data: bytes) -> None:
            said(data)
            if b"waiting for download" in data:
                self._now(step == "connecting")
            elif b"FAST_FLASH_BOOT" in data and self._programmed:
                self._now(step == "starting")

        def on_erase(offset: int, length: int) -> float:
            self._now(step == "erasing" and offset == TABLE)
            seconds = erase(offset, length)
            self._now(step == "erased" and offset == TABLE)
            return seconds

        def on_program(offset: int, data: bytes) -> float:
            self._programmed = True
            self._now(step == "writing" and offset >= APP + PROGRAM // 2)
            self._now(step == "before the table" and offset == TABLE)
            return program(offset, data)

        def on_read(offset: int, length: int) -> bytes:
            self._now(step == "verifying" and self._programmed and offset >= _VFS)
            return read(offset, length)

        rig.board.output = on_output
        for name, hook in (("erase", on_erase), ("program", on_program), ("read", on_read)):
            setattr(chip, name, hook)

    def _now(self, is_it: bool) -> None:
        if is_it and not self.come.is_set():
            self._act(self._rig)
            self.come.set()


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "virtual.bin"
    path.write_bytes(composed(program=PROGRAM))
    return path


def freeze(rig: Rig) -> None:
    """From now on nothing reaches the flash or leaves the board: its host is about to die."""
    rig.board.flash_chip.read_only = True
    rig.board.faults.deaf = True


def thaw(rig: Rig) -> None:
    rig.board.flash_chip.read_only = False
    rig.board.faults.deaf = False


def test_the_host_is_killed_at_each_step(tmp_path: Path, image_file: Path) -> None:
    """`kill -9` of the command while each of its boards is at another step."""
    before, wanted = used(), composed(program=PROGRAM)
    with bench(tmp_path) as put:
        rigs = {step: put(before) for step in STEPS}
        moments = {step: Moment(rig, step, freeze) for step, rig in rigs.items()}
        ports = [word for rig in rigs.values() for word in ("--port", rig.url)]
        with Running("flash", "--board", "virtual", "--image", image_file, *ports) as running:
            for step, moment in moments.items():
                assert moment.come.wait(30), f"{step} did not come: {running.err}"
            os.kill(running.process.pid, signal.SIGKILL)
            assert running.wait() == -signal.SIGKILL
            wait_until(lambda: not running.left(), "the processes of a command that was killed end")

        for step, rig in rigs.items():
            thaw(rig)
            since = len(rig.log)
            rig.bench.run(rig.board.reset())
            if step in OLD_RUNS:
                rig.says(OLD_SAYS, since)
            elif step == "starting":
                rig.says(NEW_SAYS, since)
            else:
                rig.says("FAST_FLASH_BOOT", since, times=3)  # it tries, and tries again
                assert OLD_SAYS not in rig.log[since:]
                assert NEW_SAYS not in rig.log[since:]

        done = flash([rig.url for rig in rigs.values()], image_file)
        assert done.codes == [0] * len(rigs), done.err
        for step, rig in rigs.items():
            assert rig.flash.read_bytes() == expected(before, wanted), step
        written = dict(zip(rigs, (board["written"] for board in done.boards), strict=True))
        assert written["starting"] == 0
        assert written["connecting"] > written["writing"] > written["before the table"] == 0x1000


def test_the_port_is_lost_at_each_step(tmp_path: Path, image_file: Path) -> None:
    """For a second: the command waits, and goes on. For good: it says so, and a later one goes on."""
    before, wanted = used(), composed(program=PROGRAM)
    with bench(tmp_path) as put:
        rigs = {step: put(before) for step in STEPS}
        for step, rig in rigs.items():
            Moment(rig, step, lambda rig: rig.board.vanish(1.0))
        lost = put(before)
        Moment(lost, "writing", lambda rig: rig.board.vanish(3600))
        done = flash([rig.url for rig in (*rigs.values(), lost)], image_file)

        assert done.codes == [0] * len(rigs) + [3], done.err
        assert "; trying again at 460800 baud" in done.err
        for step, rig in rigs.items():
            assert rig.flash.read_bytes() == expected(before, wanted), step
            rig.says(NEW_SAYS)
        assert done.boards[-1]["error"].startswith(f"{lost.url} cannot be opened: nothing listens")

        lost.inside(lambda: lost.board.vanish(0.0))
        done = flash([lost.url], image_file)
        assert (done.code, done.err.count("again")) == (0, 0)
        assert lost.flash.read_bytes() == expected(before, wanted)
        lost.says(NEW_SAYS)
