"""The wire to the supervisor: everything outside this chip (buses, radio, resets) is asked for here.

Frames on the socket that the supervisor hands down (host_tools/virtual/wire.py has the other end):
request  = operation (1 byte), length (u16 little endian), payload
reply    = status (0, or an errno), length (u16 little endian), payload
"""

import json
import os
import struct
import termios

_file = None
_out_of_step = False
_terminal = None
_isig = 0
_listens = False


def attach(fd):
    """Take the inherited socket with number `fd` and answer with what the supervisor says of this boot."""
    global _file, _isig, _terminal
    _file = open(fd, "r+b")
    boot = json.loads(call(b"h"))
    _isig = boot["isig"]
    _terminal = termios.tcgetattr(0)
    return boot


def interruptible(on):
    """Say whether a Ctrl-C is for code that runs (a KeyboardInterrupt) or a byte like any other.

    A flag of the terminal says it, because that takes effect before this returns. The first time ends the
    boot: what was typed during it is heard now.
    """
    global _listens
    _terminal[3] = _terminal[3] & ~_isig | (_isig if on else 0)
    termios.tcsetattr(0, termios.TCSANOW, _terminal)
    if not _listens:
        _listens = True
        tell(b"l")


def call(operation, payload=b""):
    """Ask and wait for the answer. Raises OSError with the errno that the supervisor gave."""
    global _out_of_step
    if _out_of_step:
        _get_in_step()
    _out_of_step = True  # a Ctrl-C from here on leaves half an answer on the wire
    _file.write(operation + struct.pack("<H", len(payload)) + payload)
    status, length = struct.unpack("<BH", _file.read(3))
    answer = _file.read(length) if length else b""
    _out_of_step = False
    if status:
        raise OSError(status)
    return answer


def tell(operation, payload=b""):
    """Say something that has no answer (feeding the watchdog must cost nothing)."""
    _file.write(operation + struct.pack("<H", len(payload)) + payload)


def call_json(operation, value):
    return json.loads(call(operation, json.dumps(value).encode()))


def stop(operation, payload=b""):
    """Ask for a reset. The supervisor kills this process, as a reset does: nothing after it runs."""
    interruptible(False)
    tell(operation, payload)
    while True:
        try:
            while _file.read(1):
                pass
            raise SystemExit  # the supervisor is gone
        except KeyboardInterrupt:
            pass


def _get_in_step():
    # Skip what is left of an answer that a Ctrl-C cut off: the supervisor echoes 16 random bytes.
    global _out_of_step
    mark = os.urandom(16)
    _file.write(b"=" + struct.pack("<H", 16) + mark)
    seen = b""
    while seen != mark:
        seen = (seen + _file.read(1))[-16:]
    _out_of_step = False
