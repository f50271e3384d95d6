"""Other people's MQTT clients for MicroPython, of the versions that are measured beside ours."""

import tarfile
from pathlib import Path

from host_tools import micropython, parts
from host_tools.parts import Sdist

CHUMICRO = (
    Sdist("chumicro-mqtt", "0.30.3", "39bcfe15e5b2ec745864872a53e214cb105e299eeee59adc6185cae59615b9cf"),
    Sdist("chumicro-sockets", "0.21.3", "fe29c9ad2e9fabd5a7929264c5cb3d5536ad784b2c24d735627e4e1bff09619a"),
    Sdist("chumicro-timing", "0.8.4", "5428d60ca79a99efe1e7453ef3cc7fba810a7f623becd5779d59cfa2c7a0fc9d"),
)


def byte_code(folder: Path) -> Path:
    """Fetch the peers and put them as .mpy into `folder`, which MicroPython can then search."""
    umqtt = parts.umqtt_simple(print)
    _compile(umqtt / "umqtt", umqtt, folder)
    for sdist in CHUMICRO:
        unpacked = folder / "sdists" / sdist.project
        with tarfile.open(parts.fetch_sdist(sdist, print)) as archive:
            archive.extractall(unpacked, filter="data")
        [source] = unpacked.glob("*/src")
        _compile(source, source, folder)
    return folder


def _compile(source: Path, base: Path, folder: Path) -> None:
    for path in sorted(source.rglob("*.py")):
        name = path.relative_to(base)
        target = (folder / name).with_suffix(".mpy")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(micropython.cross_compile(path, name.as_posix()))
