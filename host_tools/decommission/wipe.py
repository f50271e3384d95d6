"""Erasing the whole flash of a board, and the proof that nothing is left in it."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from host_tools.errors import LimpetError, RefusedError, UnverifiedError
from host_tools.esp.chip import Chip, LinkError, connect

Progress = Callable[[int, int], None]

_PIECE = 256 * 1024
_ERASED = b"\xff" * _PIECE


@dataclass(frozen=True, slots=True)
class Proof:
    """What was read after erasing."""

    size: int
    """Bytes of flash, all of them 0xFF."""
    sha256: str


def check_dump(path: Path) -> None:
    """Raises RefusedError when there is something at `path`, LimpetError when that cannot be written."""
    if path.exists():
        raise RefusedError(f"{path} is there already: name another file for the dump.")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise LimpetError(f"{path} cannot be written: name another file for the dump.")


def wipe(
    port: str,
    mac: str,
    bauds: Sequence[int],
    dump: Path | None,
    step: Callable[[str], None],
    progress: Progress,
) -> Proof:
    """Erase the flash of the board with this MAC address, read all of it, and see that each byte is 0xFF.

    What was read is kept in `dump`, if all of it is erased. A line that fails is tried again, more slowly.
    The board restarts, with nothing to start. Raises UnverifiedError when a byte is not 0xFF, RefusedError
    when it is another board by now.
    """
    for at, baud in enumerate(bauds):
        try:
            with connect(port, baud=baud) as chip:
                if chip.mac != mac:
                    raise RefusedError(f"{port}: it is another board by now ({chip.mac}, not {mac}).")
                step("erasing, which may take two minutes")
                chip.erase_all()
                step("reading all of it")
                proof = _read(port, chip, dump, progress)
                with contextlib.suppress(LinkError):  # what was to be proved is proved
                    chip.reset()
                return proof
        except LinkError:
            if at + 1 == len(bauds):
                raise
    raise ValueError("no speed was given")


def _read(port: str, chip: Chip, dump: Path | None, progress: Progress) -> Proof:
    size = chip.flash_size
    if not size:
        raise UnverifiedError(f"{port}: the flash does not say how large it is: nothing can be proved of it.")
    digest = hashlib.sha256()
    with _file(dump) as write:
        for offset in range(0, size, _PIECE):
            data = chip.read(offset, min(_PIECE, size - offset))
            if data != _ERASED[: len(data)]:
                first = offset + len(data) - len(data.lstrip(b"\xff"))
                raise UnverifiedError(
                    f"{port}: the flash is not erased, the first byte of what is left is at 0x{first:x}: "
                    "it is worn out or protected. Destroy the board."
                )
            digest.update(data)
            write(data)
            progress(offset + len(data), size)
    return Proof(size, digest.hexdigest())


@contextlib.contextmanager
def _file(path: Path | None) -> Iterator[Callable[[bytes], object]]:
    if path is None:
        yield lambda data: None
        return
    part = path.with_name(f".{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file.write
        part.replace(path)
    except OSError as error:
        raise LimpetError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)
