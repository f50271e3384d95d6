"""A rehearsal: the steps that burn eFuses are carried out on espefuse's virtual eFuses, which are a file."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host_tools.errors import LimpetError
from host_tools.secure.plan import Command, Step

_DEADLINE = 60.0  # seconds for one command
_KEY_MAKERS = ("generate-flash-encryption-key", "generate-signing-key", "digest-sbv2-public-key")
_BLOCKS = {"flash_encryption": "BLOCK1", "secure_boot_v2": "BLOCK2"}  # the ESP32's other names for them


@dataclass(frozen=True)
class Fuse:
    """An eFuse, or a block of them, as espefuse sees it. What cannot be read seems to be zero."""

    value: int | bytes
    readable: bool
    writeable: bool

    def __str__(self) -> str:
        if isinstance(self.value, int):
            words = [f"{self.value:#x}"]
        else:
            words = [f"{self.value[:4].hex(' ')} …" if any(self.value) else "empty"]
        if not self.readable:
            words = ["hidden"]
        if not self.writeable:
            words.append("fixed")
        return ", ".join(words)


Fuses = dict[str, Fuse]


@dataclass(frozen=True)
class Rehearsed:
    """One step, as it went."""

    step: Step
    before: Fuses
    after: Fuses

    @property
    def ran(self) -> tuple[Command, ...]:
        """The commands that were carried out."""
        return tuple(each for each in self.step.commands if _can(each))

    @property
    def changed(self) -> dict[str, tuple[Fuse, Fuse]]:
        """What is no longer as it was."""
        return {
            name: (self.before[name], fuse) for name, fuse in self.after.items() if fuse != self.before[name]
        }


def rehearse(chip: str, steps: tuple[Step, ...], folder: Path) -> Iterator[Rehearsed]:
    """Carry out `steps` in order, with throwaway keys, all of it in `folder`; no port is opened.

    Commands that need the board or a build of MicroPython are left out. After each command its eFuses are
    looked at: espefuse may find that something cannot be burnt any more, and say so in passing only.
    Raises LimpetError, naming the step, if a command fails or has not done what it says.
    """
    file = folder / "efuses.bin"
    before = read(chip, file)
    for number, step in enumerate(steps, 1):
        was = before
        for command in step.commands:
            if not _can(command):
                continue
            _run(command, file, folder, number)
            if not command.burns:
                continue
            now = read(chip, file)
            if missing := _undone(command, now):
                raise LimpetError(f"Step {number}, {command}: {missing} is not as it should be afterwards.")
            before = now
        yield Rehearsed(step, was, before)


def read(chip: str, file: Path) -> Fuses:
    """All virtual eFuses in `file`, which is made, with nothing burnt, if it is not there."""
    import espefuse  # type: ignore[import-untyped]

    from host_tools.esp.quiet import silence

    silence()
    found = espefuse.init_commands(chip=chip, virt=True, virt_efuse_file=str(file))
    return {each.name: Fuse(each.get_raw(), each.is_readable(), each.is_writeable()) for each in found.efuses}


def _can(command: Command) -> bool:
    """Whether it is about keys or eFuses, so that neither a board nor a build of MicroPython is needed."""
    makes_keys = command.words[0] == "espsecure" and command.words[1] in _KEY_MAKERS
    return makes_keys or command.words[0] in ("espefuse", "mkdir")


def _run(command: Command, file: Path, folder: Path, number: int) -> None:
    words = command.words
    if words[0] == "mkdir":
        (folder / words[-1]).mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    if words[0] == "espefuse":
        virtual = ("--virt", "--path-efuse-file", str(file), "--do-not-confirm")
        words = (*words[:3], *virtual, command.verb, *command.arguments)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_DEADLINE,
            umask=0o077,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LimpetError(f"Step {number}, {command}: no end after {_DEADLINE:g} s; try again.") from None
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split("fatal error occurred:")[-1].split())
        raise LimpetError(f"Step {number}, {command}: {said or 'it failed without a word'}")


def _undone(command: Command, now: Fuses) -> str | None:
    """The eFuse that is not as `command` should have left it."""
    words = command.arguments
    if command.verb == "burn-efuse":
        wanted = zip(words[::2], words[1::2], strict=True)
        return next((name for name, value in wanted if now[name].value != int(value)), None)
    if command.verb == "write-protect-efuse":
        return next((name for name in words if now[name].writeable), None)
    if command.verb == "burn-key":
        block = _BLOCKS.get(words[0], words[0])
        hidden = words[0] == "flash_encryption" or words[-1].startswith("XTS")
        return None if (now[block].readable, now[block].writeable) == (not hidden, False) else block
    return None
