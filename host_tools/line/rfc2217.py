"""pyserial's RFC 2217 client, in less of a hurry to talk and in more of one to listen and to hang up."""

import threading
import time
from typing import Any

import serial
import serial.rfc2217

_ANSWER_S = 3.0
_GLANCE_S = 0.002
_HANG_UP_S = 0.1


class Rfc2217Port(serial.rfc2217.Serial):
    """A port of a server such as esp_rfc2217_server.

    pyserial negotiates all settings anew whenever one is set that matters only here, and esptool sets another
    timeout for every block that it writes. For answers pyserial looks 20 times a second, and a reset takes a
    dozen of them.
    """

    _rfc2217_options: dict[str, Any]
    _agreed: tuple[object, ...] | None = None
    _closing: threading.Thread | None = None

    def open(self) -> None:
        """Connect, and negotiate all settings."""
        if self._closing:  # the server should notice first
            self._closing.join()
        self._agreed = None
        super().open()

    def _reconfigure_port(self) -> None:
        settings = (self.baudrate, self.bytesize, self.parity, self.stopbits, self.xonxoff, self.rtscts)
        # A limit for writing is refused there.
        if settings != self._agreed or self.write_timeout is not None:
            super()._reconfigure_port()  # type: ignore[misc]
            self._agreed = settings

    def rfc2217_set_control(self, value: bytes) -> None:
        """Set a line.

        The server carries out what it is told in order, and data after it, so nothing is gained by waiting
        until it has confirmed that; esp_rfc2217_server never does.
        """
        self._rfc2217_options["control"].set(value)

    def rfc2217_send_purge(self, value: bytes) -> None:
        """Have buffers at the other end emptied."""
        item = self._rfc2217_options["purge"]
        item.set(value)
        end = time.monotonic() + _ANSWER_S
        while not item.is_ready():
            if time.monotonic() > end:
                raise serial.SerialException("the other end does not answer")
            time.sleep(_GLANCE_S)

    def close(self) -> None:
        """Hang up.

        pyserial then sleeps for 0.3 s, so that the server notices; who opens it again waits for that.
        """
        if not self.is_open:  # as when Python ends, and can start no thread
            return
        self._closing = closing = threading.Thread(target=super().close, daemon=True)
        closing.start()
        end = time.monotonic() + _HANG_UP_S
        while self.is_open and time.monotonic() < end:
            closing.join(0.01)
