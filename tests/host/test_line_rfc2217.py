"""The RFC 2217 client: what it negotiates, and when."""

import socket
from pathlib import Path

import pytest

from host_tools.errors import NoDeviceError
from host_tools.line import open_line
from tests.host.flashing import bench
from tests.host.stand import wait_until


def test_a_port_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"rfc2217://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            NoDeviceError, match=r"what listens there does not speak RFC 2217, or serves another"
        ):
            open_line(url)


def test_settings_are_negotiated_once(tmp_path: Path) -> None:
    """esptool sets a timeout for each block; that is nothing to the other end."""
    with bench(tmp_path) as put:
        rig = put()
        port = open_line(rig.url)
        try:
            assert rig.board.net_port
            settings = rig.board.net_port.settings
            port.baudrate = 460800
            assert settings.baudrate == 460800
            settings.baudrate = 1  # whoever negotiates would set it right
            port.timeout = 0.5
            port.baudrate = 460800
            assert (settings.baudrate, port.timeout) == (1, 0.5)
            port.baudrate = 115200
            assert settings.baudrate == 115200
            port.close()
            port.open()
            port.rts, port.dtr = True, False
            wait_until(lambda: (settings.rts, settings.dtr) == (True, False), "the lines")
        finally:
            port.close()
