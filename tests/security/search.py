"""Looks for a secret where it should not be: in files, in the list of processes, in a process' memory."""

import base64
import contextlib
import os
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

_LOOK_S = 0.02


def forms(secret: bytes) -> tuple[bytes, ...]:
    """The ways in which a secret shows when something prints, encodes or stores it."""
    number = int.from_bytes(secret, "big")
    texts = [secret.hex(), secret.hex().upper(), repr(secret)[2:-1], urllib.parse.quote_from_bytes(secret)]
    # In base64 it looks otherwise by where it begins; what its neighbours have a part in is left out.
    coded = [base64.b64encode(bytes(pad) + secret)[(pad * 8 + 5) // 6 : -4] for pad in range(3)]
    found = [secret, secret[::-1], *(text.encode() for text in texts), *coded, str(number).encode()]
    return tuple(dict.fromkeys(found))


def joined(secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """All forms of several secrets."""
    return tuple(form for secret in secrets for form in forms(secret))


def holds(data: bytes, needles: Iterable[bytes]) -> bool:
    """Whether one of the needles is in it; PEM's line breaks do not hide it."""
    flat = data.replace(b"\r", b"").replace(b"\n", b"")
    return any(needle in data or needle in flat for needle in needles)


def in_files(folders: Iterable[Path], needles: Iterable[bytes]) -> list[Path]:
    """The files below the folders that have one of the needles in them, or in their names."""
    needles = tuple(needles)
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(OSError):  # gone meanwhile
                    if holds(path.read_bytes() + os.fsencode(path), needles):
                        found.append(path)
    return found


class Onlooker:
    """Reads command lines and environments of all processes, over and over, while the `with` block runs."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def saw(self, needles: Iterable[bytes]) -> bool:
        """Whether one of the needles was in one of them."""
        needles = tuple(needles)
        return any(holds(each, needles) for each in tuple(self.seen))  # it may still look

    def _look(self) -> None:
        known: dict[tuple[str, str], bytes] = {}
        while not self._stop.is_set():
            for name in os.listdir("/proc"):  # noqa: PTH208  (a hundred times a second)
                if not name.isdigit():
                    continue
                for what in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):  # it has ended, or is another user's
                        data = Path(f"/proc/{name}/{what}").read_bytes()
                        if known.get((name, what)) != data:
                            known[name, what] = data
                            self.seen.add(data)
            time.sleep(_LOOK_S)


def has_ended(pid: int) -> bool:
    """Whether a process is no more, or waits for its parent to hear of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def descendants(pid: int) -> list[int]:
    """The process and all that it has started and that still run."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def memory(pid: int) -> Iterator[bytes]:
    """The memory that a process can write to, as a core of it would have it, region by region; of one that
    has ended, nothing."""
    with contextlib.ExitStack() as stack:
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
            mem = stack.enter_context(Path(f"/proc/{pid}/mem").open("rb", 0))
        except OSError:
            if has_ended(pid):
                return
            raise
        for line in maps.splitlines():
            where, rights, *_ = line.split()
            if not rights.startswith("rw") or "[vvar" in line:
                continue
            start, end = (int(each, 16) for each in where.split("-"))
            with contextlib.suppress(OSError):  # a region without pages
                mem.seek(start)
                yield mem.read(end - start)
