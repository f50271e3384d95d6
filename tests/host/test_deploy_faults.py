"""`limpet deploy` over lines and boards that misbehave: it succeeds, or says why, and always ends."""

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from host_tools import image
from tests.host.shell import Running, limpet, refused
from tests.host.stand import wait_until
from tests.host.virtual_rig import BLANK, Rig, boards_on_bench, compose


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with boards_on_bench() as (rig,):
        yield rig


@pytest.fixture(scope="module")
def wanted() -> dict[str, bytes]:
    return image.firmware_files()


def start(rig: Rig, wanted: dict[str, bytes], **faults: Any) -> None:
    """A board without files; then its line gets faults."""
    rig.power_off()
    rig.flash.write_bytes(compose({}))
    seen = len(rig.log)
    rig.power_on()
    rig.says(">>> ", seen)

    def spoil() -> None:
        rig.board.faults.clear()
        for name, value in faults.items():
            setattr(rig.board.faults, name, value)

    rig.inside(spoil)


@pytest.mark.parametrize("faults", [{"chatter": 8}, {"drop": 2e-4}, {"garble": 2e-4}], ids=str)
def test_it_succeeds_over_a_line_with_some_faults(
    rig: Rig, faults: dict[str, Any], wanted: dict[str, bytes]
) -> None:
    start(rig, wanted, **faults)
    done = limpet("deploy", "-p", rig.url)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"{rig.url}: {len(wanted)} written, 0 removed, 0 the same\n")
    seen = len(rig.log)
    rig.inside(rig.board.faults.clear)
    rig.power_off()
    rig.power_on()
    rig.says("node: limpet", seen)
    again = limpet("deploy", "-p", rig.url)
    assert again.out == f"{rig.url}: nothing to do, all {len(wanted)} files are the same\n"


def test_a_line_that_damages_everything(rig: Rig, wanted: dict[str, bytes]) -> None:
    start(rig, wanted, garble=0.03)
    done = limpet("deploy", "-p", rig.url)
    damaged = "what goes over this line arrives damaged; see to its cable, and try again."
    silent = r"no MicroPython answers \([^\n]+\); see that it is the board's port, and that the board runs .+"
    stopped = r"the board stopped answering \([^\n]+\); see to its cable and power, and try again\."
    assert re.fullmatch(f"limpet: {rig.url}: ({damaged}|{silent}|{stopped})\n", done.err), done
    assert done.code == (5 if damaged in done.err else 3)


def test_a_board_that_never_answers_and_one_in_a_boot_loop(rig: Rig, wanted: dict[str, bytes]) -> None:
    start(rig, wanted, deaf=True)
    with (
        boards_on_bench(flash=BLANK) as (blank,),
        Running("deploy", "-p", rig.url) as deaf,
        Running("deploy", "-p", blank.url) as loop,
    ):
        for port, running, says in (
            (rig.url, deaf, "it says nothing"),
            (blank.url, loop, "it says 'invalid header: 0xffffffff'"),
        ):
            assert running.wait() == 3
            assert running.err == (
                f"limpet: {port}: no MicroPython answers ({says}); see that it is the board's port, and that "
                "the board runs MicroPython.\n"
            )


def test_a_board_that_answers_after_a_reset_alone(rig: Rig, wanted: dict[str, bytes]) -> None:
    start(rig, wanted, deaf=True)
    boots = rig.board.boots
    with Running("deploy", "-p", rig.url) as running:
        wait_until(lambda: rig.board.boots > boots, "a reset by RTS")
        rig.inside(rig.board.faults.clear)
        assert (running.wait(), running.err) == (0, "")


def test_a_port_that_goes_for_a_moment_and_one_that_stays_away(wanted: dict[str, bytes]) -> None:
    with boards_on_bench(2, flash=compose({}), paced=True) as rigs:
        codes: dict[float, tuple[int, str]] = {}

        def run(rig: Rig, seconds: float) -> None:
            with Running("deploy", "-p", rig.url) as running:
                rig.says("raw REPL")
                wait_until(lambda: rig.log.count("\x01") > 20, "much of it sent")
                rig.inside(lambda: rig.board.vanish(seconds))
                codes[seconds] = (running.wait(), running.err)

        threads = [threading.Thread(target=run, args=each) for each in zip(rigs, (1.0, 60.0), strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes[1.0] == (0, "")
        gone = r"the port has gone \([^\n]+\); see to its cable and power, and try again\."
        code, err = codes[60.0]
        assert code == 3
        assert re.fullmatch(f"limpet: {rigs[1].url}: {gone}\n", err), err


# A board whose flash does not keep what is written: the last byte of a file's first writes is another one.
BAD_FLASH = """
import builtins, io
bad = %d

class Bad:
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.file.close()
    def seek(self, at):
        self.file.seek(at)
    def write(self, data):
        return self.file.write(data[:-1] + bytes([data[-1] ^ 1]))

def bad_open(path, mode="r", good=open):
    global bad
    file = good(path, mode)
    if "b" in mode and mode != "rb" and bad:
        bad -= 1
        return Bad(file)
    return file

builtins.open = bad_open
"""


@pytest.mark.parametrize("bad", [1, 1000])
def test_a_flash_that_does_not_keep_what_is_written(rig: Rig, bad: int, wanted: dict[str, bytes]) -> None:
    before = {"boot.py": BAD_FLASH.encode() % bad, "main.py": b"print('old main')\n"}
    rig.power_off()
    rig.inside(rig.board.faults.clear)
    rig.flash.write_bytes(compose(before))
    seen = len(rig.log)
    rig.power_on()
    rig.says("old main", seen)
    seen = len(rig.log)
    done = limpet("deploy", "-p", rig.url)
    if bad == 1:
        assert (done.code, done.err) == (0, "")
        rig.says("node: limpet", seen)
        return
    refused(
        done,
        f"{rig.url}: what is written does not read back as it was sent; see to the board's flash, and "
        "deploy again.",
        code=5,
    )
    rig.says("old main", seen)
