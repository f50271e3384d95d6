"""docs/first-hour.md, word for word, on two blank virtual boards and with MicroPython's official images.

A line of the page that begins with `$ ` is given to a shell; the lines below it must come in its output, in
this order and with others between them, `…` standing for anything. `^C` interrupts a command that stays.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from host_tools import boards, paths
from tests.host.official import official
from tests.host.shell import Running, environment

PAGE = (paths.ROOT / "docs" / "first-hour.md").read_text()
PORTS = ("/dev/ttyUSB0", "/dev/ttyUSB1")
DEADLINE = 120.0  # seconds for one command; many times what a busy machine needs
_ANYTHING = "…"
_INTERRUPT = "^C"


@dataclass
class Step:
    """A command of the page, and what it says there."""

    command: str
    said: list[str] = field(default_factory=list)


def steps(page: str) -> list[Step]:
    """The commands of a page, in order. A block of code without a `$` is none, but must be known here."""
    found: list[Step] = []
    for block in re.findall(r"(?:^ {4}.*\n)+", page, re.MULTILINE):
        lines = [line[4:] for line in block.splitlines()]
        if not lines[0].startswith("$ "):
            assert lines[0].partition(" ")[0] in ("export", "limpet"), f"a command without a $: {lines[0]}"
            continue
        for line in lines:
            if line.startswith("$ "):
                found.append(Step(line[2:]))
            else:
                found[-1].said.append(line)
    return found


def missing(said: list[str], output: str) -> str | None:
    """The first line that the page has and the output has not, behind the ones before it."""
    lines = iter(output.splitlines())
    for line in said:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in line.split(_ANYTHING)))
        if not any(pattern.fullmatch(each.strip()) for each in lines):
            return line
    return None


def run(step: Step, folder: Path, ports: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Give a command to a shell, and check that it ends well and says what the page says."""
    command = step.command
    for name, url in ports.items():
        command = command.replace(name, url)
    stays = _INTERRUPT in step.said
    if stays:  # or the shell would be interrupted as well
        command = f"exec {command}"
    said = [line for line in step.said if line not in (_ANYTHING, _INTERRUPT)]
    log = folder / "output"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(variables),
            start_new_session=True,
        )
    try:
        end = time.monotonic() + DEADLINE
        while process.poll() is None and time.monotonic() < end:
            if stays and missing(said, _output(log, ports)) is None:
                os.killpg(process.pid, signal.SIGINT)
                process.wait(DEADLINE)
            time.sleep(0.05)
        output = _output(log, ports)
        assert process.poll() is not None, f"{step.command} does not end:\n{output}"
        told = f"$ {step.command}\n{output}\nended with {process.returncode}"
        assert process.returncode == 0, told
        line = missing(said, output)
        assert line is None, f"the page has {line!r}, but:\n{told}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _output(log: Path, ports: Mapping[str, str]) -> str:
    text = log.read_text(errors="replace").replace("\r", "")
    for name, url in ports.items():
        text = text.replace(url, name)
    return text


@pytest.mark.timeout(900)
def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(paths.ROOT / "docs")
    images = tmp_path / "images"
    images.mkdir()
    for board, chip in (("esp32_devkitc", "esp32"), ("esp32s3_generic", "esp32s3")):
        pinned = boards.load_board(board).micropython
        assert pinned is not None
        shutil.copy(official(chip), images / pinned.name)
    [start] = re.findall(r"^    limpet (virtual --count 2 .*) --port \d+$", PAGE, re.MULTILINE)
    with Running(*start.split()) as virtual:
        ports = {name: virtual.line("rfc2217://").split()[0] for name in PORTS}
        variables = environment(
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            LIMPET_PORTS=" ".join(ports.values()),
            LIMPET_MICROPYTHON_IMAGES=str(images),
        )
        for step in steps(PAGE):
            run(step, tmp_path, ports, variables)


def test_the_page_is_read_as_it_is_written() -> None:
    page = (
        "Words.\n\n    $ one\n    1 …\n    …\n    $ two\n\nMore.\n\n    export X=1\n\n    $ three\n    ^C\n"
    )
    assert steps(page) == [Step("one", ["1 …", "…"]), Step("two"), Step("three", ["^C"])]


@pytest.mark.parametrize(
    ("said", "output", "first"),
    [
        (["a … c", "d"], "x\n  a b c\ny\nd\n", None),
        (["a", "b"], "b\na\n", "b"),
        (["a"], "ab\n", "a"),
        (["/dev/ttyUSB0 …"], "/dev/ttyUSB0\n", None),
    ],
)
def test_lines_are_found_in_their_order(said: list[str], output: str, first: str | None) -> None:
    assert missing(said, output) == first
