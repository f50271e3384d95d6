"""tls of the virtual board: the certificate dates of TLS, seen by the board's clock.

mbedTLS asks the host for the time, so a board whose clock was never set would find certificates valid that
an ESP32 refuses. Here a clock that is more than a day off the host's fails the handshake, with the error
of the ESP32 port. (Shorter errors cannot matter: nobody issues certificates for hours.)
"""

import sys
import time

import tls
from tls import *  # noqa: F403

_DAY = 86400
_SSLContext = tls.SSLContext  # this file becomes `tls` in a moment


class SSLContext:
    """tls.SSLContext; it is wrapped because a class in C cannot be changed, nor its attributes inherited."""

    def __init__(self, protocol):
        self._context = _SSLContext(protocol)

    def __getattr__(self, name):
        return getattr(self._context, name)

    @property
    def verify_mode(self):
        return self._context.verify_mode

    @verify_mode.setter
    def verify_mode(self, mode):
        self._context.verify_mode = mode

    def wrap_socket(self, *args, **kwargs):
        if abs(time.offset) > _DAY and self.verify_mode != CERT_NONE:  # noqa: F405
            late = time.offset > 0
            raise ValueError(
                "The certificate " + ("has expired" if late else "validity starts in the future")
            )
        return self._context.wrap_socket(*args, **kwargs)


sys.modules["tls"] = sys.modules[__name__]
