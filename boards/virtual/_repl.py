"""The REPL of the virtual board: friendly, raw and raw-paste modes as MicroPython's pyexec.c speaks them.

Ours, because the unix port's own one lacks the raw mode before 1.27 and ends the process where a board
does a soft reset. Left out: line editing, history, tab completion and auto-indent.
"""

import sys

import _host

_CTRL_A, _CTRL_B, _CTRL_C, _CTRL_D, _CTRL_E = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
_PASTE_WINDOW = 64  # below 0x80: the text stream would send two bytes for more

_in = sys.stdin.buffer
_out = sys.stdout


def _read():
    """One byte of the serial port. Ctrl-C comes as a signal from the terminal, and is a byte again here."""
    try:
        byte = _in.read(1)
    except KeyboardInterrupt:
        return _CTRL_C
    if not byte:
        raise OSError("serial port gone")
    return byte


def soft_reset(raw):
    # The supervisor says "MPY: soft reboot" and starts the next boot in the same mode.
    _host.stop(b"S", b"\1" if raw else b"\0")


def execute(source, name, mode, scope, raw):
    """Run code; the exception that ended it, or None. SystemExit is a soft reset, as on a board."""
    try:
        exec(compile(source, name, mode), scope)
    except SystemExit:
        soft_reset(raw)
    except BaseException as e:  # KeyboardInterrupt too: the code that runs is what it is meant for
        return e
    return None


def run(raw, scope):
    """The prompt, for ever."""
    while True:
        try:
            raw = _raw(scope) if raw else _friendly(scope)
        except KeyboardInterrupt:  # between two reads
            pass


def _friendly(scope):
    _out.write("\nMicroPython %s on virtual; Virtual ESP32 with ESP32\n" % sys.version.split("; ")[-1])
    _out.write('Type "help()" for more information.\n')
    while True:
        _out.write(">>> ")
        line = b""
        while True:
            byte = _read()
            if byte == _CTRL_A and not line:
                return True
            if byte == _CTRL_B and not line:
                _out.write("\n")
                return False
            if byte == _CTRL_C:
                line = b""
                _out.write("\n>>> ")
            elif byte == _CTRL_D and not line:
                _out.write("\n")
                soft_reset(False)
            elif byte == _CTRL_E and not line:
                line = _paste()
                _show(execute(line, "<stdin>", "exec", scope, False))
                break
            elif byte in b"\x7f\x08":
                if line:
                    line = line[:-1]
                    _out.write("\x08 \x08")
            elif byte in b"\r\n":
                _out.write("\n")
                if _complete(line):
                    if line.strip():
                        _show(execute(line + b"\n", "<stdin>", "single", scope, False))
                    break
                line += b"\n"
                _out.write("... ")
            elif byte >= b" ":
                line += byte
                _out.write(byte.decode())


def _complete(line):
    """Whether a line stands for itself; a block ends with an empty line."""
    lines = line.split(b"\n")
    if len(lines) > 1 and not lines[-1].strip():
        return True
    opened = sum(line.count(c) for c in (b"(", b"[", b"{")) - sum(line.count(c) for c in (b")", b"]", b"}"))
    return len(lines) == 1 and opened <= 0 and not line.rstrip().endswith(b":")


def _paste():
    _out.write("\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\n=== ")
    text = b""
    while True:
        byte = _read()
        if byte == _CTRL_C:
            _out.write("\n")
            return b""
        if byte == _CTRL_D:
            _out.write("\n")
            return text
        text += b"\n" if byte == b"\r" else byte
        _out.write("\n=== " if byte == b"\r" else byte.decode())


def _show(error):
    if error is not None:
        sys.print_exception(error, _out)


def _raw(scope):
    """The raw REPL (reference/repl.html, 'Raw mode' and 'Raw-paste mode')."""
    _out.write("raw REPL; CTRL-B to exit\n>")
    source = bytearray()
    while True:
        byte = _read()
        if byte == _CTRL_A:
            _out.write("\nraw REPL; CTRL-B to exit\n>")
            source = bytearray()
        elif byte == _CTRL_B:
            _out.write("\n")
            return False
        elif byte == _CTRL_C:
            source = bytearray()
        elif byte == _CTRL_E and not source:
            if _read() == b"A" and _read() == _CTRL_A:
                _out.write("R\x01")
                _run_raw(_raw_paste(), scope)
            else:
                _out.write("R\x00")
        elif byte == _CTRL_D:
            if not source:
                _out.write("\n")
                soft_reset(True)
            _out.write("OK")
            _run_raw(bytes(source), scope)
            source = bytearray()
        else:
            source += byte


def _raw_paste():
    """Take source text under flow control; None when the host gave up with Ctrl-C."""
    _out.write(chr(_PASTE_WINDOW) + "\0")
    source = bytearray()
    while True:
        byte = _read()
        if byte == _CTRL_D:
            _out.write("\x04")
            return bytes(source)
        if byte == _CTRL_C:
            _out.write("\x04")
            return None
        source += byte
        if len(source) % _PASTE_WINDOW == 0:
            _out.write("\x01")


def _run_raw(source, scope):
    error = None if source is None else execute(source, "<stdin>", "exec", scope, True)
    _out.write("\x04")
    _show(error)
    _out.write("\x04>")
