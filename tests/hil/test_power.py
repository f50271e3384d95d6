"""Power that fails while something is written: what was kept is not lost, and what is lost is told."""

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from host_tools.esp.chip import connect
from host_tools.hil.broker import Witness
from host_tools.hil.node import Node
from host_tools.hil.power import PowerControl
from host_tools.hil.rig import Rig

How = Literal["before", "torn", "after"]

SECTORS = 3
"""Of the spool: as few as there may be, so that each is soon opened, filled and erased."""
DEPLOY = """
import sys, pathlib
from host_tools import deploy, image
files = image.firmware_files(pathlib.Path(sys.argv[2]))
print("deploying", flush=True)
deploy.deploy_all([sys.argv[1]], lambda: files, lambda *_: None)
"""
FLASH = """
import sys, pathlib
from host_tools.esp.chip import connect
image = pathlib.Path(sys.argv[2]).read_bytes()
with connect(sys.argv[1], baud=921600) as chip:
    chip.hurry()
    print("flashing", flush=True)
    while True:
        chip.write([(0, image)])
"""


def make_hasty(node: Node) -> None:
    """Have its sensors measure as often as they can, and a spool that they fill in seconds; all anew."""
    sensors = [
        each if each["kind"] == "ds18b20" else {**each, "period_ms": 25} for each in node.settings["sensors"]
    ]
    node.provision(settings={**node.settings, "sensors": sensors}, spool_sectors=SECTORS)


def assert_nothing_unsaid(broker: Witness, node: Node, *, cuts: int, epochs: int = 1) -> None:
    """Numbers and epoch go on; each cut has cost one record at most, of which the node has told."""
    found = broker.readings(node)
    assert len(found.epochs) == epochs
    found = found.of_epoch(found.epochs[-1])
    assert not found.altered and found.in_order()
    assert all(hole.told == hole.count for hole in found.holes), found.holes
    assert found.lost <= cuts, found.holes


@contextmanager
def another_process(code: str, *arguments: str) -> Iterator[None]:
    """While a program works on the board, from when it has said that it does; then it dies."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout and process.stdout.readline()
            yield
        finally:
            process.kill()


def wait_for_version(broker: Witness, node: Node, version: str) -> None:
    broker.wait_for(lambda: (broker.about(node) or {}).get("firmware") == version, f"firmware {version}")


@pytest.fixture
def changed(rig: Rig, tmp_path: Path) -> Callable[[str], Path]:
    """From a version to the folder of a firmware that is the rig's but for that."""

    def make(version: str) -> Path:
        folder = tmp_path / version
        shutil.copytree(rig.firmware, folder)
        module = folder / "limpet" / "__init__.py"
        module.write_text(
            re.sub(r'(?m)^__version__ = ".+"', f'__version__ = "{version}"', module.read_text())
        )
        return folder

    return make


@pytest.mark.needs("power:flash")
@pytest.mark.parametrize("how", ["before", "torn", "after"])
def test_power_that_fails_while_a_reading_is_kept(
    node: Node, broker: Witness, power: PowerControl, how: How
) -> None:
    """In the middle of a sector, where the next one is erased, and where that is opened."""
    make_hasty(node)
    operations = (8, 130, 260)
    for operation in operations:
        power.cut_at_flash(operation, how, "spool")
        power.wait_until_off()
    power.on()
    assert_nothing_unsaid(broker, node, cuts=len(operations) if how == "torn" else 0, epochs=2)


@pytest.mark.needs("power")
def test_power_that_fails_at_any_moment(node: Node, broker: Witness, power: PowerControl, rig: Rig) -> None:
    make_hasty(node)
    moments = [random.uniform(0.2, 2.0) for _ in range(3)]
    rig.timeline.add("test", f"power is to fail after {moments} s")
    for moment in moments:
        node.says("uplink: connected")
        power.cut(after=moment)
        power.wait_until_off()
        power.on()
    assert_nothing_unsaid(broker, node, cuts=len(moments), epochs=2)


@pytest.mark.needs("power:flash")
def test_power_that_fails_while_a_deploy_writes(
    node: Node, broker: Witness, power: PowerControl, changed: Callable[[str], Path]
) -> None:
    """The board starts by itself with the old firmware or the new one, and a second deploy ends as if nothing
    had happened."""
    cuts: tuple[tuple[int, How, str], ...] = (12, "torn", "99.1"), (20, "after", "99.2")
    for operation, how, version in cuts:
        power.cut_at_flash(operation, how, "vfs")
        node.says("uplink: connected")
        folder = changed(version)
        with node.port_free() as port, another_process(DEPLOY, port, str(folder)):
            power.wait_until_off()
        power.on()
        node.says("uplink: connected")
        node.deploy(folder)
        wait_for_version(broker, node, version)
    assert_nothing_unsaid(broker, node, cuts=0)


@pytest.mark.needs("power")
def test_power_that_fails_during_a_deploy(
    node: Node, broker: Witness, power: PowerControl, changed: Callable[[str], Path], rig: Rig
) -> None:
    moment = random.uniform(0.1, 1.0)
    rig.timeline.add("test", f"power is to fail {moment} s after a deploy begins")
    folder = changed("99.9")
    for file in folder.rglob("*.py"):  # so that it takes long
        file.write_text(file.read_text() + "\nDEPLOYED = 1\n")
    with node.port_free() as port, another_process(DEPLOY, port, str(folder)):
        power.cut(after=moment)
        power.wait_until_off()
    power.on()
    node.says(re.compile(f"limpet ({re.escape(rig.where.firmware)}|99\\.9)"))
    node.deploy(folder)
    wait_for_version(broker, node, "99.9")
    assert_nothing_unsaid(broker, node, cuts=1)


@pytest.mark.needs("power", "download")
def test_power_that_fails_while_the_board_is_flashed(
    node: Node, broker: Witness, power: PowerControl, tmp_path: Path
) -> None:
    """Its ROM still answers, and flashing it again makes it a node."""
    image = tmp_path / "image"
    image.write_bytes(node.image.flash())
    with node.port_free() as port:
        with another_process(FLASH, port, str(image)):
            power.cut(after=1.0)
            power.wait_until_off()
        power.on()
        with connect(port, baud=921600) as chip:
            assert chip.mac == node.mac
            chip.erase_all()
            chip.write(list(written(image.read_bytes())))
            chip.reset()
    assert broker.readings(node)


def written(image: bytes, piece: int = 0x10000) -> Iterator[tuple[int, bytes]]:
    """The parts of an image in which there is something."""
    for at in range(0, len(image), piece):
        if image[at : at + piece].strip(b"\xff"):
            yield at, image[at : at + piece]
