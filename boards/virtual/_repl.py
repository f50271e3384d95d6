"""The REPL of the virtual board: friendly, raw and raw-paste modes as MicroPython's pyexec.c speaks them.

Ours, because the unix port's own one lacks the raw mode before 1.27 and ends the process where a board
does a soft reset. Left out: moving in the line, history, tab completion and auto-indent.
"""

import io
import sys

import _host

_CTRL_A, _CTRL_B, _CTRL_C, _CTRL_D, _CTRL_E = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
_ESCAPE = b"\x1b"
_PASTE_WINDOW = 128
_BANNER = 'MicroPython %s; Virtual %s with %s\nType "help()" for more information.\n'
_RAW_BANNER = "raw REPL; CTRL-B to exit\n"
_BLOCKS = (b"if", b"while", b"for", b"try", b"with", b"class", b"def", b"async")

_OUR_FRAMES = ('  File "' + __file__[: -len("_repl.py")]).encode()

_in = sys.stdin.buffer
_out = sys.stdout


def _read():
    byte = _in.read(1)
    if not byte:
        raise OSError("serial port gone")
    return byte


def soft_reset():
    # The supervisor says "MPY: soft reboot" and starts the next boot in the same mode.
    _host.stop(b"S")


def execute(source, name, mode, scope):
    """Run code; the exception that ended it, or None. SystemExit too: it asks for a soft reset."""
    error = None
    try:
        code = compile(source, name, mode)
        _host.interruptible(True)
        exec(code, scope)
        _host.interruptible(False)
    except BaseException as e:  # KeyboardInterrupt too: the code that runs is what it is meant for
        _host.interruptible(False)
        error = e
    return error


def show(error):
    """Print an exception as a board does: without frames of these modules, which are C code there."""
    text = io.BytesIO()  # a name in it need not be UTF-8, and would be no str
    sys.print_exception(error, text)
    for line in text.getvalue().split(b"\n")[:-1]:
        if not line.startswith(_OUR_FRAMES):
            _out.buffer.write(line + b"\n")


def run(raw, scope, interrupted, chip):
    """The prompt, for ever. `interrupted`: the last process has answered already, but for a prompt."""
    banner = _BANNER % (_version(), chip, chip)
    while True:
        try:
            _host.interruptible(False)
            _host.tell(b"M", b"\1" if raw else b"\0")
            if not interrupted:
                _out.write(_RAW_BANNER if raw else banner)
            raw = _raw(scope) if raw else _friendly(scope)
            interrupted = False
        except KeyboardInterrupt:  # it was meant for code that has just ended
            interrupted = True


def _version():
    """`v1.29.0-preview on 2026-07-12`, as releases have it; this one names its commit alone."""
    *numbers, suffix = sys.implementation[1]
    version = ".".join(str(number) for number in numbers)
    return "v%s%s on %s" % (version, "-" + suffix if suffix else "", sys.version.split(" on ")[-1])


def _friendly(scope):
    while True:
        _out.write(">>> ")
        text, end = _line()
        while end is None and not _complete(text):
            _out.write("... ")
            more, end = _line()
            text += b"\n" + more
        if end == _CTRL_A:
            _out.write("\n")
            return True
        if end == _CTRL_B:
            _out.write("\n")
            return False
        if end == _CTRL_D and not text:
            _out.write("\n")
            soft_reset()
        if end == _CTRL_C:
            _out.write("\n")
        elif end == _CTRL_E:
            _run(_paste(), "exec", scope)
        elif text.strip():
            _run(text + b"\n", "single", scope)


def _line():
    """Read and echo a line. What ended it: None for Return, or a control character on an empty line."""
    line = b""
    while True:
        byte = _read()
        if byte in b"\r\n":
            _out.write("\n")
            return line, None
        if byte == _CTRL_C or (byte in b"\x01\x02\x04\x05" and not line):
            return line, byte
        if byte == _ESCAPE:  # an arrow key: three bytes
            _read()
            _read()
        elif byte in b"\x7f\x08":
            if line:
                line = line[:-1]
                _out.write("\x08 \x08")
        elif byte >= b" " or byte == b"\t":
            byte = b"    " if byte == b"\t" else byte
            line += byte
            _out.buffer.write(byte)


def _complete(text):
    """Whether an input can run. A block goes on to an empty line, brackets and long strings to their end."""
    lines = text.split(b"\n")
    first = lines[0].split(b" ")[0].split(b":")[0].split(b"(")[0]
    if (first in _BLOCKS or text.startswith(b"@")) and (len(lines) == 1 or lines[-1].strip()):
        return False
    if text.endswith(b"\\") or text.count(b'"""') % 2 or text.count(b"'''") % 2:
        return False
    return sum(text.count(c) for c in (b"(", b"[", b"{")) <= sum(text.count(c) for c in (b")", b"]", b"}"))


def _paste():
    _out.write("\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\n=== ")
    text = b""
    while True:
        byte = _read()
        if byte == _CTRL_C:
            text = byte = b""
        if byte in (b"", _CTRL_D):
            _out.write("\n")
            return text
        text += b"\n" if byte == b"\r" else byte
        if byte == b"\r":
            _out.write("\n=== ")
        else:
            _out.buffer.write(byte)


def _run(source, mode, scope):
    error = execute(source, "<stdin>", mode, scope)
    if isinstance(error, SystemExit):
        soft_reset()
    if error is not None:
        show(error)


def _raw(scope):
    """The raw REPL (reference/repl.html, 'Raw mode' and 'Raw-paste mode')."""
    _out.write(">")
    source = bytearray()
    while True:
        byte = _read()
        if byte == _CTRL_A:
            if len(source) == 2 and source[0] == 5:  # Ctrl-E
                if source[1] == ord("A"):
                    _out.write("R\x01")
                    _run_raw(_raw_paste(), scope)
                else:
                    _out.write("R\x00")
                _out.write(">")
            else:
                _out.write(_RAW_BANNER + ">")
            source = bytearray()
        elif byte == _CTRL_B:
            _out.write("\n")
            return False
        elif byte == _CTRL_C:
            source = bytearray()
        elif byte == _CTRL_D:
            _out.write("OK")
            if not source:
                _out.write("\n")
                soft_reset()
            _run_raw(bytes(source), scope)
            _out.write(">")
            source = bytearray()
        else:
            source += byte


def _raw_paste():
    """Take source text under flow control; None when the host gave up with Ctrl-C."""
    _out.buffer.write(bytes((_PASTE_WINDOW & 0xFF, _PASTE_WINDOW >> 8, 1)))  # 1: a second window is free
    source = bytearray()
    while True:
        byte = _read()
        if byte in (_CTRL_C, _CTRL_D):
            _out.write("\x04")
            return bytes(source) if byte == _CTRL_D else None
        source += byte
        if len(source) % _PASTE_WINDOW == 0:
            _out.write("\x01")


def _run_raw(source, scope):
    error = KeyboardInterrupt() if source is None else execute(source, "<stdin>", "exec", scope)
    _out.write("\x04")
    if isinstance(error, SystemExit):
        _out.write("\x04")
        soft_reset()
    if error is not None:
        show(error)
    _out.write("\x04")
