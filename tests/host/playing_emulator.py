"""A program of the tests that takes the command line of QEMU or of esp-emu, and plays a virtual board.

It is neither of them: it shows that a rig calls its emulator as it should, and what becomes of the serial
port and the flash. `python -m tests.host.playing_emulator ARGUMENTS` is the program.
"""

import argparse
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path

from host_tools import boards
from host_tools.virtual.bench import Bench
from host_tools.virtual.board import VirtualBoard
from host_tools.virtual.world import World

_BOARDS = {"esp32": "esp32_generic", "esp32c3": "esp32c3_generic"}
_MAC = bytes.fromhex("240ac4000001")


def main() -> None:
    """Play the chip until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    words = _qemu() if "-machine" in sys.argv else _esp_emu()
    serial = socket.create_server(_address(words.serial))
    with Bench() as bench:

        async def make() -> VirtualBoard:
            kind = boards.load_board(_BOARDS[words.chip])
            return VirtualBoard(Path(words.flash), kind, World(), _MAC)

        board = bench.run(make())
        bench.on_close(board.close)
        if words.control:
            control = socket.create_server(_address(words.control))
            threading.Thread(target=_obey, args=(control, bench, board), daemon=True).start()
            bench.run(board.power_on())
        terminal = os.open(board.port.path, os.O_RDWR | os.O_NOCTTY)
        while True:
            client, _ = serial.accept()
            if not board.is_on:
                bench.run(board.power_on())
            _carry(client, terminal)


def _qemu() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("-machine", "-monitor", "-drive", "-serial"):
        parser.add_argument(name, required=True)
    parser.add_argument("-nographic", action="store_true", required=True)
    words = parser.parse_args()
    drive = dict(word.split("=") for word in words.drive.split(","))
    assert (drive["if"], drive["format"], words.monitor) == ("mtd", "raw", "none")
    address, server, wait = words.serial.split(",")
    assert (address[:4], server, wait) == ("tcp:", "server=on", "wait=on")
    return argparse.Namespace(chip=words.machine, flash=drive["file"], serial=address[4:], control=None)


def _esp_emu() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("chip", "firmware", "uart-tcp", "control-tcp", "net"):
        parser.add_argument(f"--{name}", required=True)
    words = parser.parse_args()
    assert words.net == "user"
    return argparse.Namespace(
        chip=words.chip, flash=words.firmware, serial=words.uart_tcp, control=words.control_tcp
    )


def _address(text: str) -> tuple[str, int]:
    host, port = text.split(":")
    return host, int(port)


def _obey(control: socket.socket, bench: Bench, board: VirtualBoard) -> None:
    """esp-emu's control channel, as far as rigs use it."""
    while True:
        client, _ = control.accept()
        with client, client.makefile("rwb", buffering=0) as lines:
            for line in lines:
                if line.strip() == b"reset":
                    bench.run(board.reset())
                    lines.write(b"ok\n")
                else:
                    lines.write(b"err: unknown command\n")


def _carry(client: socket.socket, terminal: int) -> None:
    """Bytes between the serial port's one client and the board, as long as the client is there."""
    with client:
        while True:
            ready, _, _ = select.select([client.fileno(), terminal], [], [])
            if client.fileno() in ready:
                data = client.recv(4096)
                if not data:
                    return
                os.write(terminal, data)
            if terminal in ready:
                try:
                    client.sendall(os.read(terminal, 4096))
                except OSError:
                    return


if __name__ == "__main__":
    main()
