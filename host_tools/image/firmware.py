"""The node's files, as they stand on its filesystem."""

from pathlib import Path

from host_tools import micropython, paths
from host_tools.image.errors import ImageError

SETTINGS_NAME = "limpet.json"


def firmware_files(folder: Path = paths.FIRMWARE) -> dict[str, bytes]:
    """The node's files by path: boot.py and main.py as they are, the package `limpet` as byte code.

    `folder` is where their source is. The interpreter starts only `boot.py` and `main.py` by name, so these
    two stay source. Raises LimpetError when a module does not compile, or when there is no firmware.
    """
    if not (folder / "main.py").is_file():
        raise ImageError(f"There is no firmware in {folder}: run limpet from a whole checkout.")
    files = {name: (folder / name).read_bytes() for name in ("boot.py", "main.py")}
    package = folder / "limpet"
    for source in sorted(package.rglob("*.py")):
        name = source.relative_to(folder).as_posix()
        files[name.removesuffix(".py") + ".mpy"] = micropython.cross_compile(source, name)
    return files
