"""An explained image for people, and for programs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from host_tools.boards.model import type_name
from host_tools.image.build import Built
from host_tools.image.contents import Program
from host_tools.image.explain import Explanation
from host_tools.image.listing import Files

_KINDS = {
    "flash": "a whole flash",
    "stock": "a stock image, of bootloader, partition table and program",
    "program": "a program alone, which goes into a partition",
    "filesystem": "a filesystem alone, which goes into the partition 'vfs'",
    "table": f"a partition table alone, which goes to {0x8000:#x}",
    "blank": "blank, every byte is 0xFF: nothing was flashed",
}
_FILES = {
    "same": "as in this checkout",
    "differs": "differs from this checkout's",
    "settings": "settings",
    "other": "not of the firmware",
    "unknown": "",
}


def text(found: Explanation) -> Iterator[str]:
    """The lines for people."""
    yield f"{found.source}: {_KINDS[found.kind]}, {_size(found.size)}"
    if found.chip:
        mac = f", MAC {found.mac}" if found.mac else ""
        yield _row("chip", f"{found.chip}{mac}")
    yield from _programs(found)
    if found.boards:
        yield _row("boards", ", ".join(found.boards))
    for problem in found.problems:
        yield _row("problem", problem)
    if found.parts:
        yield ""
        yield from _map(found)
    if found.program:
        yield _row("program", found.program.text())
    if found.files:
        yield _row("files", found.files.text())
    if found.filesystem:
        yield ""
        yield from _files(found.filesystem)


def as_json(found: Explanation) -> dict[str, Any]:
    """The same for programs; docs/images.md names the keys."""
    application = found.application
    banner = application.micropython if application else None
    said = application.image.description if application else None
    identity, files = found.identity, found.filesystem
    spool = next((each.holding.as_json() for each in found.parts if each.partition.name == "spool"), {})
    return {
        "source": found.source,
        "kind": found.kind,
        "bytes": found.size,
        "chip": found.chip,
        "mac": found.mac,
        "header_flash_size": found.bootloader.image.flash_size
        if isinstance(found.bootloader, Program)
        else None,
        "micropython": banner and {"version": banner.version, "date": banner.date, "machine": banner.machine},
        "esp_idf": said.idf or None if said else None,
        "boards": list(found.boards),
        "identity": identity and identity.as_json(),
        "spool": spool.get("spool"),
        "firmware": files.firmware if files else None,
        "missing": list(files.missing) if files else [],
        "settings": files.as_json()["settings"] if files else None,
        "files": files.as_json()["files"] if files else [],
        "partitions": [
            {
                "name": each.partition.name,
                "type": type_name(each.partition),
                "offset": each.partition.offset,
                "size": each.partition.size,
                "in_table": each.is_in_table,
                "holds": each.holding.text(),
                **(
                    {"program": each.holding.as_json()["program"]}
                    if isinstance(each.holding, Program)
                    else {}
                ),
            }
            for each in found.parts
        ],
        "problems": list(found.problems),
    }


def _programs(found: Explanation) -> Iterator[str]:
    application = found.application
    if application and application.micropython:
        banner = application.micropython
        said = application.image.description
        idf = f", ESP-IDF {said.idf}" if said and said.idf else ""
        yield _row("runs", f"MicroPython {banner.version} of {banner.date}, {banner.machine}{idf}")
    elif application and application.image.description and application.image.description.project:
        yield _row("runs", application.image.description.project)


def _map(found: Explanation) -> Iterator[str]:
    if found.bootloader:
        yield _line(found.bootloader_offset, "bootloader", "", found.bootloader.text())
    for each in sorted(found.parts, key=lambda part: part.partition.offset):
        place = each.partition
        holds = each.holding.text() + ("" if each.is_in_table else "; not in the table")
        yield _line(place.offset, place.name, _size(place.size), holds)


def _line(offset: int, name: str, size: str, holds: str) -> str:
    return f"  {offset:#08x}  {_printable(name):<15} {size:>9}  {holds}".rstrip()


def _files(found: Files) -> Iterator[str]:
    width = max((len(each.path) for each in found.files), default=0)
    for each in found.files:
        yield f"  /{_printable(each.path):<{width}} {each.size:>8}  {_FILES[each.is_]}".rstrip()
    for path in found.missing if found.firmware != "none" else ():
        yield f"  /{path:<{width}} {'missing':>8}"


def _printable(text: str) -> str:
    """Names in an image may be anything, and a terminal obeys some of it."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _row(name: str, value: str) -> str:
    return f"  {name:<8} {value}"


def _size(count: int) -> str:
    for unit, name in ((0x100000, "MiB"), (0x400, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} bytes"


def built_text(built: Built, path: Path) -> str:
    """A line on an image that was built."""
    runs = f"MicroPython {built.micropython.version}" if built.micropython else "a stand-in for MicroPython"
    node = "with settings" if built.has_settings else "without settings"
    return (
        f"{path}: {_size(len(built.flash))} for '{built.board}', {runs}, {built.files} files of firmware, "
        f"{node}; SHA-256 {built.sha256}"
    )


def built_as_json(built: Built, path: Path) -> dict[str, Any]:
    """The same for programs."""
    return {
        "file": str(path),
        "board": built.board,
        "bytes": len(built.flash),
        "sha256": built.sha256,
        "micropython": built.micropython and built.micropython.version,
        "firmware_files": built.files,
        "settings": built.has_settings,
    }
