"""The board's RFC 2217 port: its lines, its speed, who may have it, and the tools that take it for real."""

import errno
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import serial
from serial.rfc2217 import COM_PORT_OPTION, IAC, SB, SE, SET_BAUDRATE, SET_PARITY

from host_tools import boards, image
from host_tools.virtual.lines import EN_RISES_LATE
from tests.host.stand import wait_until
from tests.host.virtual_rig import BLANK, Rig, boards_on_bench

MAIN = {"main.py": b"print('main ran')\n"}
DEADLINE = 120.0


@pytest.fixture(scope="module")
def rigs() -> Iterator[dict[str, Rig]]:
    """A board with a USB bridge and one with the chip's own USB port."""
    with boards_on_bench() as (uart,), boards_on_bench(board="esp32c3_generic") as (usb,):
        yield {"uart": uart, "usb": usb}


@pytest.fixture
def uart(rigs: dict[str, Rig]) -> Rig:
    """The board with the bridge, at its prompt."""
    return at_prompt(rigs["uart"])


@pytest.fixture
def usb(rigs: dict[str, Rig]) -> Rig:
    return at_prompt(rigs["usb"])


def at_prompt(rig: Rig) -> Rig:
    since = len(rig.log)
    rig.inside(lambda: rig.board.switch("reset"))
    rig.says(">>> ", since)
    return rig


@contextmanager
def opened(rig: Rig, baudrate: int = 115200) -> Iterator[serial.Serial]:
    """Its port, with neither line asserted."""
    port = serial.serial_for_url(rig.url, do_not_open=True, baudrate=baudrate, timeout=0.05)
    port.dtr = port.rts = False
    deadline = time.monotonic() + 10
    while True:
        try:
            port.open()
            break
        except serial.SerialException:  # the last one has just left
            assert time.monotonic() < deadline
            time.sleep(0.02)
    with port:
        yield port


def read_until(port: serial.Serial, text: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + 30
    while text not in seen:
        assert time.monotonic() < deadline, f"no {text!r} but {seen!r}"
        seen += port.read(max(1, port.in_waiting))
    return seen


# DTR and RTS


def test_opening_and_closing_the_port_resets_nothing(rigs: dict[str, Rig]) -> None:
    """A program that does not care asserts both lines, one after the other."""
    for rig in rigs.values():
        at_prompt(rig)
        boots = rig.board.boots
        with serial.serial_for_url(rig.url, 115200, timeout=0.05) as port:
            port.write(b"print(6 * 7)\r")
            read_until(port, b"42")
        assert rig.board.boots == boots


def test_held_in_reset_it_is_silent_and_boots_when_released(uart: Rig) -> None:
    with opened(uart) as port:
        since = len(uart.log)
        port.rts = True
        wait_until(lambda: uart.board.pid is None, "the reset")
        port.write(b"print('not heard')\r")
        assert port.read(100) == b""
        assert uart.log[since:] == ""
        port.rts = False
        assert b"rst:0x1 (POWERON_RESET),boot:0x13" in read_until(port, b">>> ")
        assert "not heard" not in uart.log[since:]


def test_a_client_that_goes_lets_the_board_out_of_reset(uart: Rig) -> None:
    since = len(uart.log)
    with opened(uart) as port:
        port.rts = True
        wait_until(lambda: uart.board.pid is None, "the reset")
    uart.says(">>> ", since)


def test_reset_with_io0_low_the_rom_waits(uart: Rig) -> None:
    with opened(uart) as port:
        port.rts = True
        port.dtr = True
        port.rts = False
        read_until(port, b"boot:0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))\r\nwaiting for download\r\n")
        assert uart.board.pid is None
        sync = b"\xc0\x00\x08\x24\x00\x00\x00\x00\x00\x07\x07\x12\x20" + b"\x55" * 32 + b"\xc0"
        port.write(sync)
        read_until(port, b"\xc0\x01\x08")
        port.dtr = False
        port.rts = True
        port.rts = False
        read_until(port, b">>> ")


def test_the_rom_of_the_chip_with_its_own_usb(usb: Rig) -> None:
    with opened(usb) as port:
        port.dtr = True
        port.rts = True
        port.dtr = False
        read_until(port, b"rst:0x15 (USB_UART_CHIP_RESET),boot:0x5 (DOWNLOAD(USB/UART0/1))\r\nwaiting")
        port.rts = False
        port.rts = True
        port.rts = False
        assert b"rst:0x15 (USB_UART_CHIP_RESET),boot:0xd" in read_until(port, b">>> ")


def test_a_host_that_stops_halfway_lets_it_boot(uart: Rig) -> None:
    since = len(uart.log)
    with opened(uart) as port:
        port.rts = True
        port.dtr = True
        assert uart.board.pid is None
        uart.says(">>> ", since)  # after EN_RISES_LATE
    assert EN_RISES_LATE < 5
    since = len(uart.log)
    with opened(uart) as port:
        port.rts = True
        port.dtr = True
        port.write(b"print('typed ' + 'at once')\r")
        read_until(port, b"\r\ntyped at once\r\n")
    assert "POWERON_RESET" in uart.log[since:]


def test_a_board_without_power_does_not_care(uart: Rig) -> None:
    with opened(uart) as port:
        uart.power_off()
        since = len(uart.log)
        port.rts = True
        port.rts = False
        port.rts = True
        uart.power_on()  # EN is low
        assert port.read(100) == b""
        assert uart.log[since:] == ""
        port.rts = False
        read_until(port, b">>> ")


# Who may have it


def test_one_at_a_time(uart: Rig) -> None:
    with opened(uart) as port:
        with pytest.raises(serial.SerialException, match=str(errno.ECONNREFUSED)):
            serial.serial_for_url(uart.url)
        port.write(b"print('still ' + 'mine')\r")
        read_until(port, b"\r\nstill mine\r\n")
    with opened(uart) as port:
        port.write(b"\r")
        read_until(port, b">>> ")


def test_the_port_vanishes_and_comes_back(uart: Rig) -> None:
    pid = uart.pid
    with opened(uart) as port:
        uart.faults(vanish=2.0)
        with pytest.raises(serial.SerialException):
            while True:
                port.read(1)
    with pytest.raises(serial.SerialException, match=str(errno.ECONNREFUSED)):
        serial.serial_for_url(uart.url)
    address = urlsplit(uart.url)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((address.hostname, address.port))  # nobody else gets it meanwhile
    with opened(uart) as port:  # the same URL
        port.write(b"\r")
        read_until(port, b">>> ")
    assert uart.pid == pid  # the board has run on


def test_clients_that_talk_nonsense(uart: Rig) -> None:
    boots = uart.board.boots
    address = urlsplit(uart.url).hostname, urlsplit(uart.url).port
    start = IAC + SB + COM_PORT_OPTION
    dice = random.Random(2217)
    for words in (
        start + SET_BAUDRATE + b"\x01" + IAC + SE,
        start + SET_PARITY + b"\x77" + IAC + SE,
        start + SET_PARITY + IAC + SE,
        start + b"\x0a" + IAC + SE,
        IAC + SE,
        start * 3,
        start + b"x" * 1000,
        *(dice.randbytes(2000).replace(b"\x03", IAC) for _ in range(20)),
    ):
        with connected(address) as client:
            client.sendall(words)
    with opened(uart) as port:
        port.write(b"\x03\x02\rprint('in ' + 'order')\r")
        read_until(port, b"\r\nin order\r\n")
    assert uart.board.boots >= boots


@contextmanager
def connected(address: tuple[str | None, int | None]) -> Iterator[socket.socket]:
    deadline = time.monotonic() + 10
    while True:
        try:
            client = socket.create_connection((address[0] or "", address[1] or 0), timeout=10)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with client:
        yield client


# Speed


def test_at_another_baud_rate_there_is_garbage_both_ways(uart: Rig) -> None:
    with opened(uart, 9600) as port:
        uart.inside(lambda: uart.board._printed(b"the board says something\r\n"))
        wait_until(lambda: port.in_waiting > 2, "garbage")
        assert b"board" not in port.read(port.in_waiting)
        since = len(uart.log)
        port.write(b"print('unheard ' + 'of')\r" * 3)
        port.baudrate = 115200
        port.write(b"\x03\rprint('heard ' + 'now')\r")
        read_until(port, b"heard now")
        assert "unheard of" not in uart.log[since:]


def test_usb_has_no_baud_rate(usb: Rig) -> None:
    with opened(usb, 9600) as port:
        port.write(b"print('any ' + 'speed')\r")
        read_until(port, b"\r\nany speed\r\n")


def test_a_cable_that_is_bad_above_a_speed(uart: Rig) -> None:
    uart.faults(max_baud=9600)
    with opened(uart) as port:
        uart.inside(lambda: uart.board._printed(b"o" * 1000))
        wait_until(lambda: port.in_waiting >= 1000, "it all")
        assert 0 < 1000 - port.read(1000).count(b"o") < 300
        uart.faults(max_baud=None)


def test_a_paced_line_is_no_faster_than_its_baud_rate() -> None:
    with boards_on_bench(paced=True) as (rig,):
        rig.says(">>> ")
        with opened(rig) as port:
            port.write(b"\r")
            read_until(port, b">>> ")
            began = time.monotonic()
            port.write(b"print('x' * 11520, 'end')\r")
            read_until(port, b"end\r\n")
            assert time.monotonic() - began > 0.95
            began = time.monotonic()
            port.write(b"\x01'" + b"y" * 11520 + b"'\x04")
            read_until(port, b"OK")
            assert time.monotonic() - began > 0.95
            began = time.monotonic()
            for turn in range(40):  # what is small takes its time as well
                port.write(b"# %090d\x04" % turn)
                read_until(port, b"OK")
            assert time.monotonic() - began > 0.3


# The tools


def test_plain_esptool_flashes_a_blank_board_that_boots_then(tmp_path: Path) -> None:
    """With its default reset, and with `usb-reset` on the chip that has its own USB port."""
    with (
        boards_on_bench(flash=BLANK) as (uart,),
        boards_on_bench(board="esp32c3_generic", flash=BLANK) as (usb,),
    ):
        running = []
        for rig, words in ((uart, []), (usb, ["--before", "usb-reset"])):
            rig.says("invalid header: 0xffffffff", times=9)  # again and again
            start = rig.kind.features.bootloader_offset
            file = tmp_path / f"{rig.kind.name}.bin"
            file.write_bytes(image.compose(rig.kind, MAIN, stand_in=True)[start:])
            running.append(esptool(rig, *words, "--baud", "460800", "write-flash", hex(start), file))
        for rig, process in zip((uart, usb), running, strict=True):
            said, _ = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0, said
            assert f"MAC:                {rig.mac}" in said
            assert "Hash of data verified." in said
            rig.says("main ran")
            assert rig.log.count("waiting for download") == 1
        assert "rst:0x10 (RTCWDT_RTC_RESET)" in uart.log
        assert "rst:0x10 (RTCWDT_RTC_RST)" in usb.log


def esptool(rig: Rig, *words: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "esptool", "--port", rig.url, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_boards_differ_in_mac_flash_and_url() -> None:
    with boards_on_bench(3, "lolin_d32") as rigs:
        assert len({rig.url for rig in rigs}) == len({rig.mac for rig in rigs}) == 3
        assert [rig.kind for rig in rigs] == [boards.load_board("lolin_d32")] * 3
        for number, rig in enumerate(rigs):
            rig.says(">>> ")
            assert rig.eval("__import__('machine').unique_id()[5]") == number
