"""A board with its firmware stopped: Python on it, its files, its flash."""

import base64
import contextlib
import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from host_tools.errors import UsageError
from host_tools.hil.board.on_board import CODE
from host_tools.hil.errors import HilError
from host_tools.partitions import SECTOR, Partition, find
from host_tools.repl import BoardError, Repl

_READ = 2048
"""Bytes that are read at a time."""
_HEADER = 80  # characters of a piece's first line, in base64
_LEAST = 48  # bytes in a piece
_ERASED = 32  # sectors at a time
_ERASE_S = 0.5  # for one, at the worst (Winbond W25Q32JV, table 9.6: 400 ms)


class Session:
    """A board in its raw REPL. What is run on it must be repeatable: it is run again when the line fails."""

    def __init__(self, repl: Repl, port: str, table: tuple[Partition, ...], micropython: str) -> None:
        self._repl = repl
        self._port = port
        self.table = table
        self.micropython = micropython
        """Its version, such as "1.27.0"."""
        self.files = Files(lambda: contextlib.nullcontext(self))
        self.flash = Flash(lambda: contextlib.nullcontext(self))

    def exec(self, code: str) -> str:
        """Run Python; what it prints. What it defines stays. Raises BoardError for what it raises."""
        printed = self._repl.run(f"run({code!r})")
        self._check(self._repl.ask("failure"))
        return printed.replace("\r", "")

    def eval(self, expression: str, seconds: float | None = None) -> Any:
        """The value of an expression: numbers, texts, bytes, and what is made of them. `seconds` is how long
        it may take, if that is long. Raises BoardError for an exception on the board."""
        failure, value = self._repl.ask(f"attempted(lambda: eval({expression!r}))", seconds)
        self._check(failure)
        return value

    def _check(self, failure: str | None) -> None:
        # Caught on the board: to the Repl most exceptions are signs of a line that damages what is sent.
        if failure is not None:
            raise BoardError(self._port, failure)

    def send(self, function: str, data: bytes, where: Callable[[int], object], most: int = 1 << 30) -> None:
        """Call a function on the board with pieces of `data`, each headed by `where` it belongs."""
        at = end = 0

        def piece(room: int) -> bytes:
            nonlocal end
            end = min(len(data), at + max(_LEAST, (room - _HEADER) // 4 * 3), at // most * most + most)
            return f"{where(at)!r}\n".encode() + data[at:end]

        while True:
            self._repl.give(function, piece)
            at = end
            if at >= len(data):
                return


@contextlib.contextmanager
def session(port: str, table: tuple[Partition, ...]) -> Iterator[Session]:
    """The board on a port, stopped; it stays so until somebody resets it. `table` are its partitions.

    Raises as host_tools.repl.Repl does.
    """
    repl = Repl(port, CODE).__enter__()
    try:
        free, micropython = repl.ask("about()")
        repl.has_memory(free)
        yield Session(repl, port, table, micropython)
    finally:
        repl.close()


Opener = Callable[[], AbstractContextManager[Session]]
"""Gives a session, for the `with` block of one call."""


class Files:
    """The filesystem of a board. A path that is not there raises HilError."""

    def __init__(self, session: Opener) -> None:
        self._session = session

    def list(self) -> dict[str, str]:
        """All files by path, each with its SHA-256 in base64."""
        with self._session() as board:
            return _flat(board.eval("look_at_all()"))

    def read(self, path: str) -> bytes:
        found = bytearray()
        with self._session() as board, _there(path):
            while True:
                part = base64.b64decode(board.eval(f"read_file({path!r},{len(found)},{_READ})"))
                found += part
                if len(part) < _READ:
                    return bytes(found)

    def write(self, path: str, data: bytes) -> None:
        """Have a file with this content, and the folders above it."""
        with self._session() as board:
            board.send("take_file", data, lambda at: (path, at))

    def remove(self, path: str) -> None:
        """A file, or a folder with all that is in it."""
        with self._session() as board, _there(path):
            board.eval(f"os.stat({path!r})[0]")
            board.eval(f"drop_all([{path!r}])")

    def make(self, wanted: Mapping[str, bytes]) -> None:
        """Have these files and nothing else; what is right already stays."""
        with self._session() as board:
            tree = board.eval("look_at_all()")
            present = _flat(tree)
            tops = {path.partition("/")[0] for path in wanted}
            gone = sorted((tree.keys() - tops) | (present.keys() - wanted.keys()))
            if gone:
                board.eval(f"drop_all({gone!r})")
            for path, data in sorted(wanted.items()):
                if present.get(path) != digest(data):
                    board.files.write(path, data)


class Flash:
    """The partitions of a board, by name. Raises PartitionTableError for one that is not there."""

    def __init__(self, session: Opener) -> None:
        self._session = session

    def read(self, partition: str, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` on, by default to the end."""
        with self._session() as board:
            place = find(board.table, partition)
            end = place.size if size is None else offset + size
            _check(place, offset, end)
            found = bytearray()
            while (at := offset + len(found)) < end:
                count = min(SECTOR - at % SECTOR, end - at)
                said = board.eval(f"read_flash({partition!r},{at},{count})")
                found += base64.b64decode(said) if said else b"\xff" * count
            return bytes(found)

    def write(self, partition: str, data: bytes, offset: int = 0) -> None:
        """Have `data` from `offset` on; the rest stays. Whole sectors are erased and written."""
        with self._session() as board:
            place = find(board.table, partition)
            _check(place, offset, offset + len(data))
            start = offset - offset % SECTOR
            end = -(-(offset + len(data)) // SECTOR) * SECTOR
            before = board.flash.read(partition, start, offset - start)
            after = board.flash.read(partition, offset + len(data), end - offset - len(data))
            whole = before + data + after
            if whole:
                board.send("take_flash", whole, lambda at: (partition, start + at), SECTOR)

    def erase(self, partition: str) -> None:
        """All of it, where it is not blank."""
        with self._session() as board:
            sectors = find(board.table, partition).size // SECTOR
            for first in range(0, sectors, _ERASED):
                end = min(first + _ERASED, sectors)
                board.eval(f"erase_flash({partition!r},{first},{end})", _ERASED * _ERASE_S)

    def digest(self, partition: str) -> str:
        """Its SHA-256, in base64."""
        with self._session() as board:
            find(board.table, partition)
            return str(board.eval(f"digest_flash({partition!r})"))


def digest(data: bytes) -> str:
    """The SHA-256 of data as a board says it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


@contextlib.contextmanager
def _there(path: str) -> Iterator[None]:
    try:
        yield
    except BoardError as error:
        if error.errno == errno.ENOENT:
            raise HilError(f"There is no '{path}' on the board.") from None
        raise


def _check(place: Partition, offset: int, end: int) -> None:
    if not 0 <= offset <= end <= place.size:
        raise UsageError(
            f"Partition '{place.name}' has {place.size} bytes, and bytes {offset} to {end} are not all in it."
        )


def _flat(tree: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Paths and digests out of folders in folders."""
    found: dict[str, str] = {}
    for name, what in tree.items():
        found |= {above + name: what} if isinstance(what, str) else _flat(what, f"{above}{name}/")
    return found
