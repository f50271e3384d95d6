"""Runs at every start, a soft reset into the raw REPL included: it must not wait and must not fail.

It decides whether the serial port is open (docs/production.md). Until then Ctrl-C is a byte like any other.
"""

import micropython

micropython.kbd_intr(-1)
try:
    # A Ctrl-C of the moment before the line above is raised where the program jumps next: here.
    for _ in "..":
        pass
except KeyboardInterrupt:
    pass

import gc  # noqa: E402

# Collect early: TLS takes one contiguous block of the heap that MicroPython and ESP-IDF share.
gc.threshold(16384)


def has_identity():
    from esp32 import Partition

    magic = bytearray(4)
    for partition in Partition.find(Partition.TYPE_DATA, label="identity"):
        for slot in (0, 2):
            partition.readblocks(slot, magic, 0)
            if magic == b"LPID":
                return True
    return False


def is_locked(has_something_to_hide):
    import errno
    import json

    try:
        with open("/limpet.json") as f:
            settings = json.load(f)
        profile, button = settings.get("profile", "development"), settings.get("way_in")
    except Exception as e:
        # Settings that are not there yet lock nothing. Damaged ones lock what they may have locked.
        return getattr(e, "errno", 0) != errno.ENOENT and has_something_to_hide()
    if profile == "development":
        return False
    if button:
        from machine import Pin

        if not Pin(button["pin"], Pin.IN, Pin.PULL_UP).value():
            from limpet import way_in

            way_in.look(button["pin"], button["hold_ms"])
    return True


def run():
    import sys
    import time

    import machine

    try:
        try:
            import main  # noqa: F401
        except BaseException as e:
            sys.print_exception(e)
        time.sleep(10)
    finally:
        machine.reset()


try:
    locked = is_locked(has_identity)
except Exception:
    locked = True
if locked:
    run()
micropython.kbd_intr(3)
del has_identity, is_locked, run
