"""What the chip does before the firmware's first line: find the flash, mount it, run boot.py and main.py.

Started by the supervisor as `micropython _boot.py FD`, where FD is the socket to the supervisor. All of
the board's modules are loaded while the host's filesystem can still be seen; then it is gone, as it is
on a chip, and `/` is the littlefs on the flash.
"""

import sys


def _load_modules(boot):
    import time

    import _host
    import machine

    machine._boot = boot
    time.offset = boot["clock_offset"]
    import esp32
    from _flash import Flash

    esp32.flash = Flash(boot["flash"])
    esp32.flash.read_only, esp32.flash.slow = boot["read_only"], boot["slow"]
    if boot["brownout"] is not None:
        esp32.flash.brown_out(boot["brownout"], die=lambda: _host.stop(b"B"))
    if boot["cut"]:
        esp32.flash.cut_power(die=lambda: _host.stop(b"P"), **boot["cut"])
    import socket

    # The old names of the unix port must not lead around the simulated clock and radio.
    sys.modules["utime"] = time
    sys.modules["usocket"] = socket
    import _micropython  # noqa: F401
    import _tls  # noqa: F401
    import ds18x20  # noqa: F401
    import network  # noqa: F401
    import onewire  # noqa: F401

    # Frozen into the stock image; here they come from PyPI, and lie in RAM.
    sys.path.append(boot["umqtt"])
    import umqtt.simple  # noqa: F401


def _mount():
    """What the stock image's _boot.py and flashbdev.py do, its endless complaint included."""
    import os
    import time

    import _host
    import vfs
    from esp32 import Partition

    found = Partition.find(Partition.TYPE_DATA, label="vfs")
    vfs.umount("/")
    if not found:
        print("No filesystem: the partition table has no partition 'vfs'.")
        return
    partition = found[0]
    try:
        vfs.mount(vfs.VfsLfs2(partition, progsize=32, readsize=32, lookahead=32), "/")
    except OSError:
        first = bytearray(512)
        partition.readblocks(0, first)
        if any(byte != 0xFF for byte in first):
            _host.interruptible(True)  # the one thing that helps without flashing: Ctrl-C, and a look around
            while True:
                print(
                    "The filesystem appears to be corrupted. Reflash the board, or erase its vfs partition."
                )
                time.sleep(3)
        print("Performing initial setup")
        vfs.VfsLfs2.mkfs(partition, progsize=32, readsize=32, lookahead=32)
        vfs.mount(vfs.VfsLfs2(partition, progsize=32, readsize=32, lookahead=32), "/")
        with open("boot.py", "w") as f:
            f.write("# This file is executed on every boot (including wake-boot from deepsleep)\n")
    os.chdir("/")


def _run_file(name, scope):
    """Run boot.py or main.py; False when it ended by an exception, which is shown as a board shows it."""
    import _repl

    try:
        with open(name) as f:
            source = f.read()
    except OSError:
        return True
    error = _repl.execute(source, name, "exec", scope)
    if isinstance(error, SystemExit):
        _repl.soft_reset()
    if error is not None:
        _repl.show(error)
    return error is None


def main():
    import _host
    import _repl

    boot = _host.attach(int(sys.argv[1]))
    raw, interrupted = boot["raw"], boot["interrupted"]
    _load_modules(boot)
    sys.path[:] = ["", ".frozen", "/lib"]
    sys.argv[:] = [""]
    try:
        _mount()
    except KeyboardInterrupt as e:
        _host.interruptible(False)
        _repl.show(e)
    scope = {"__name__": "__main__"}
    try:
        if not interrupted and _run_file("boot.py", scope) and not raw:
            _run_file("main.py", scope)
    except KeyboardInterrupt:  # it was meant for code that had just ended
        pass
    _repl.run(raw, scope, interrupted, boot["chip"])


main()
