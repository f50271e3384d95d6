"""Which ports there are: what pyserial lists, what Linux makes up, and what LIMPET_PORTS adds."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from serial.tools.list_ports_common import ListPortInfo

from host_tools.devices import Port, ports
from host_tools.devices.port import VARIABLE, describe


def usb(
    device: str, location: str, vid: int = 0x10C4, pid: int = 0xEA60, serial: str | None = None
) -> ListPortInfo:
    info = ListPortInfo(device)
    info.vid, info.pid, info.location, info.serial_number = vid, pid, location, serial
    info.description = "CP2102N USB to UART Bridge Controller"
    return info


@pytest.fixture(autouse=True)
def none_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def names(found: Iterable[Port]) -> list[str]:
    return [port.name for port in found]


def test_identical_bridges_are_told_apart_by_their_sockets() -> None:
    one, other = ports(lambda: [usb("/dev/ttyUSB1", "1-2.10"), usb("/dev/ttyUSB0", "1-2.9")])
    assert (one.name, one.location) == ("/dev/ttyUSB0", "1-2.9")
    assert (other.name, other.location) == ("/dev/ttyUSB1", "1-2.10")
    assert one.usb_id == other.usb_id == "10c4:ea60"
    assert one.serial_number is other.serial_number is None
    assert one != other


def test_what_is_known_of_a_port() -> None:
    [port] = ports(lambda: [usb("/dev/ttyACM0", "3-1", 0x303A, 0x1001, "24:0A:C4:00:00:01")])
    assert port == Port(
        "/dev/ttyACM0",
        "3-1",
        0x303A,
        0x1001,
        "24:0A:C4:00:00:01",
        "USB-Serial/JTAG of the chip",
        "CP2102N USB to UART Bridge Controller",
    )


@pytest.mark.parametrize(
    ("vid", "pid", "bridge"),
    [
        (0x1A86, 0x7523, "CH340"),
        (0x0403, 0x6001, "FT232R"),
        (0x10C4, 0x0001, "Silicon Labs"),
        (0x2E8A, 5, None),
    ],
)
def test_bridges_by_their_ids(vid: int, pid: int, bridge: str | None) -> None:
    [port] = ports(lambda: [usb("/dev/ttyUSB0", "1-1", vid, pid)])
    assert (port.bridge, port.may_be_a_board) == (bridge, bridge is not None)


def test_ports_that_linux_makes_up_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in {"ttyS0": "4", "ttyS1": "0"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(f"{kind}\n")
    monkeypatch.setattr("host_tools.devices.port._SYSFS", tmp_path)
    plain = [ListPortInfo(f"/dev/{name}") for name in ("ttyS1", "ttyS0", "ttyAMA0")]
    found = ports(lambda: [*plain, usb("/dev/ttyUSB0", "1-1")])
    assert names(found) == ["/dev/ttyUSB0", "/dev/ttyAMA0", "/dev/ttyS0"]
    assert [port.may_be_a_board for port in found] == [True, False, False]


def test_boards_on_other_machines_are_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "rfc2217://lab:4001  /dev/ttyUSB0 rfc2217://lab:4001 socket://lab:4002")
    found = ports(lambda: [usb("/dev/ttyUSB0", "1-1"), usb("/dev/ttyUSB1", "1-2")])
    assert names(found) == ["/dev/ttyUSB1", "rfc2217://lab:4001", "/dev/ttyUSB0", "socket://lab:4002"]
    assert all(port.may_be_a_board for port in found)
    assert [port.is_url for port in found] == [False, True, False, True]
    assert found[2].location == "1-1"


def test_a_link_to_a_port_keeps_its_name_and_is_the_same_port(tmp_path: Path) -> None:
    device = tmp_path / "ttyUSB7"
    device.touch()
    link = tmp_path / "usb-Silicon_Labs_0001-if00"
    link.symlink_to(device)
    there = ports(lambda: [usb(str(device), "1-1", serial="0001")])
    port = describe(str(link), there)
    assert (port.name, port.location, port.serial_number, port.named) == (str(link), "1-1", "0001", True)
    assert describe("/dev/none", there) == Port("/dev/none", named=True)


def test_a_device_that_goes_while_it_is_listed() -> None:
    answers: list[Exception | list[ListPortInfo]] = [TypeError("int() of None"), [usb("/dev/ttyUSB0", "1-1")]]

    def list_them() -> list[ListPortInfo]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert names(ports(list_them)) == ["/dev/ttyUSB0"]
