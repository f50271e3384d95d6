"""Opening a serial port so that the board behind it goes on with what it does.

On most boards two transistors make a reset of RTS without DTR, and the ROM's download mode of DTR without RTS
at a reset; the chips' own USB-Serial/JTAG does the same in hardware. Linux asserts both lines when a port is
opened. pyserial then sets one after the other, and so passes through one of them alone; and Espressif's
server (esp_rfc2217_server) makes a whole reset of some of its words. So nothing is said of the lines while a
port opens. Then both are released in one go; those of another machine's port stay as its server has them.
"""

import contextlib
import errno
import fcntl
import grp
import os
import struct
import termios
import time
from pathlib import Path
from typing import Any

import serial

from host_tools.errors import NoDeviceError
from host_tools.line.rfc2217 import Rfc2217Port

BAUDRATE = 115200
_GLANCE_S = 0.1
"""How long one read may take."""
_WRITE_S = 2.0
_PATIENCE_S = 1.0
"""A port that was just closed may be held still by a process that is about to become another one, and of one
that was just plugged in udev has yet to set the group."""
_LOOK_AGAIN_S = 0.05
_REFUSED = "Connection refused"
"""A server says so too while it has yet to notice that its last client has gone."""

_NO_PORT = "it is no serial port; name the board's"
_GONE = "it is not there any more; see to its cable"
_SPOKEN = {
    "Inappropriate ioctl": _NO_PORT,
    "Input/output error": _GONE,
    _REFUSED: ("nothing listens there, or another program has it; start the server, or close that program"),
    "Name or service not known": "there is no such host; name another one",
    "No route to host": "the network does not reach it; see to the network, or name another address",
    "does not seem to support RFC2217": (
        "what listens there does not speak RFC 2217, or serves another program; close that one, "
        "or name a board's port"
    ),
    "Broken pipe": "the server there hung up; see what it says",
    "Connection reset": "the server there hung up; see what it says",
    "timed out": "nobody answers there; see to the network, or name another address",
}
_NUMBERED = {
    errno.ENOTTY: _NO_PORT,
    errno.EINVAL: _NO_PORT,
    errno.EISDIR: "it is a folder; name the board's port",
    errno.ENOENT: _GONE,
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
    errno.EIO: _GONE,
}
_BOTH = struct.pack("I", termios.TIOCM_DTR | termios.TIOCM_RTS)
_RULE = (
    """echo 'KERNEL=="ttyUSB[0-9]*|ttyACM[0-9]*", GROUP="dialout", MODE="0660"' """
    "| sudo tee /etc/udev/rules.d/70-serial.rules, and plug it in again"
)
_BUSY = (errno.EAGAIN, errno.EBUSY)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def open_line(name: str, glance_s: float = _GLANCE_S, write_s: float = _WRITE_S) -> Any:
    """A port of pyserial, a device or a URL, opened without a reset, for this program alone.

    A read ends after `glance_s`, a write after `write_s` seconds (over RFC 2217 after pyserial's own limit).
    Raises NoDeviceError, with the reason and the remedy.
    """
    is_url = "://" in name
    if not name or not (is_url or Path(name).exists()):
        raise NoDeviceError(f"The serial port '{name}' does not exist: plug the board in, or name its port.")
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            held = not is_url and _is_terminal(name) and bool(holders(name))
            if not held:
                return _open(name, glance_s, write_s)
        except (OSError, ValueError, NotImplementedError) as error:
            passing = getattr(error, "errno", None) in (*_BUSY, *_FORBIDDEN) or _REFUSED in str(error)
            if not passing or time.monotonic() >= end:
                raise NoDeviceError(f"{name} cannot be opened: {why(name, error)}.") from None
        if held and time.monotonic() >= end:
            raise NoDeviceError(f"{name} cannot be opened: {_in_use(name)}.")
        time.sleep(_LOOK_AGAIN_S)


def why(name: str, error: Exception) -> str:
    """Why a port does not open and what to do, from what pyserial raised; without a full stop."""
    number = getattr(error, "errno", None)
    if number in _FORBIDDEN:
        return f"you may not; {allow(Path(name))}"
    if number in _BUSY:
        return _in_use(name)
    if number in _NUMBERED:
        return _NUMBERED[number]
    text = str(error).strip()
    return next((spoken for seen, spoken in _SPOKEN.items() if seen in text), text.rstrip("."))


def allow(path: Path) -> str:
    """What lets this user open a device: as a rule its group, which udev's rules set (`dialout`, `uucp`)."""
    try:
        status = path.stat()
        group = grp.getgrgid(status.st_gid).gr_name
    except (KeyError, OSError):
        return f"sudo chown $USER {path}"
    if status.st_gid == 0 or not status.st_mode & 0o060:  # not what udev's rules leave behind
        return f"sudo chown $USER {path}; for good, {_RULE}"
    return f"sudo usermod -aG {group} $USER, then log in again"


def holders(name: str) -> list[str]:
    """The programs that have a device open, as `minicom (4711)`: as far as this user may know (Linux)."""
    device = os.path.realpath(name)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            opened = any(str(entry.readlink()) == device for entry in (process / "fd").iterdir())
            program = (process / "comm").read_text().strip() if opened else ""
        except OSError:  # another user's, or ended meanwhile
            continue
        if opened:
            found.append(f"{program} ({process.name})")
    return found


def _in_use(name: str) -> str:
    programs = ", ".join(holders(name)) if "://" not in name else ""
    return f"{programs or 'another program'} has it open; close that first"


def open_untouched(port: Any) -> None:
    """Open a pyserial port that was made but not opened, without a reset of the board behind it."""
    port._update_dtr_state = port._update_rts_state = lambda: None
    try:
        port.open()
    finally:
        del port._update_dtr_state, port._update_rts_state
    with contextlib.suppress(
        AttributeError, OSError, ValueError
    ):  # another machine's, or it has no such lines
        fcntl.ioctl(port.fileno(), termios.TIOCMBIC, _BOTH)


def _open(name: str, glance_s: float, write_s: float) -> Any:
    if name.startswith("rfc2217://"):
        port: Any = Rfc2217Port(None, BAUDRATE, timeout=glance_s)
        port.port = name
    else:
        port = serial.serial_for_url(
            name, BAUDRATE, timeout=glance_s, write_timeout=write_s, exclusive=True, do_not_open=True
        )
    open_untouched(port)
    return port


def _is_terminal(name: str) -> bool:
    return os.path.realpath(name).startswith(("/dev/tty", "/dev/pts/", "/dev/cu."))
