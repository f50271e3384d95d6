"""docs/first-hour.md, word for word, on two blank virtual boards and with MicroPython's official images.

A line of the page that begins with `$ ` is given to a shell; the lines below it must come in its output, in
this order and with others between them, `…` standing for anything. `^C` interrupts a command that stays. A
passphrase, which the page leaves to the terminal, comes from a file descriptor here.
"""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from host_tools import boards, paths
from tests.host.official import official
from tests.host.shell import Running, environment

PAGE = (paths.ROOT / "docs" / "first-hour.md").read_text()
PORTS = ("/dev/ttyUSB0", "/dev/ttyUSB1")
BROKER, TIME_SERVER = "18883", "4123"
ASKS_FOR_PASSPHRASE = re.compile(r"limpet (ca init|broker init|provision|rotate)\b")
STAYS = "limpet broker run"
DEADLINE = 120.0  # seconds for one command; many times what a busy machine needs
_ANYTHING = "…"
_INTERRUPT = "^C"


@dataclass
class Step:
    """A command of the page, and what it says there; or one for a terminal of its own."""

    command: str
    said: list[str] = field(default_factory=list)
    beside: bool = False


def steps(page: str) -> list[Step]:
    """The commands of a page, in order. A block of code without a `$` is none, but must be known here."""
    found: list[Step] = []
    for block in re.findall(r"(?:^ {4}.*\n)+", page, re.MULTILINE):
        lines = [line[4:] for line in block.splitlines()]
        if not lines[0].startswith("$ "):
            assert lines[0].partition(" ")[0] in ("export", "limpet"), f"a command without a $: {lines[0]}"
            if lines[0].startswith(STAYS):
                found.append(Step(lines[0], beside=True))
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
    for name, here in ports.items():
        command = command.replace(name, here)
    if ASKS_FOR_PASSPHRASE.match(command):
        command += " --passphrase-fd 3 3< passphrase"
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
    for name, here in ports.items():
        text = text.replace(here, name)
    return text


@pytest.fixture
def project() -> Iterator[Path]:
    """A folder that others may enter: run by root, Mosquitto becomes another user."""
    with tempfile.TemporaryDirectory(prefix="limpet-first-hour-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.timeout(900)
def test_every_command_of_the_page_does_what_it_says(project: Path) -> None:
    (project / "docs").symlink_to(paths.ROOT / "docs")
    images = project / "images"
    images.mkdir()
    for board, chip in (("esp32_devkitc", "esp32"), ("esp32s3_generic", "esp32s3")):
        pinned = boards.load_board(board).micropython
        assert pinned is not None
        shutil.copy(official(chip), images / pinned.name)
    (project / "passphrase").write_text(f"{secrets.token_hex(16)}\n" * 2)
    [start] = re.findall(r"^    limpet (virtual --count 2 .*) --port \d+$", PAGE, re.MULTILINE)
    free = {BROKER: free_port(socket.SOCK_STREAM), TIME_SERVER: free_port(socket.SOCK_DGRAM)}
    with contextlib.ExitStack() as stack:
        virtual = stack.enter_context(Running(*start.replace(TIME_SERVER, free[TIME_SERVER]).split()))
        ports = {name: virtual.line("rfc2217://").split()[0] for name in PORTS} | free
        variables = environment(
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            LIMPET_PORTS=" ".join(ports[name] for name in PORTS),
            LIMPET_MICROPYTHON_IMAGES=str(images),
        )
        for step in steps(PAGE):
            if step.beside:
                stack.enter_context(Running(*step.command.split()[1:], cwd=project))
            else:
                run(step, project, ports, variables)


def free_port(kind: socket.SocketKind) -> str:
    """A port that nobody has on this machine at the moment."""
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_page_is_read_as_it_is_written() -> None:
    page = (
        "Words.\n\n    $ one\n    1 …\n    …\n    $ two\n\nMore.\n\n    export X=1\n\n    $ three\n    ^C\n"
        "\nBeside it:\n\n    limpet broker run b\n"
    )
    assert steps(page) == [
        Step("one", ["1 …", "…"]),
        Step("two"),
        Step("three", ["^C"]),
        Step("limpet broker run b", beside=True),
    ]


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
