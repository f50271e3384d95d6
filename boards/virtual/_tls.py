"""The certificate dates of TLS, seen by the board's clock.

mbedTLS asks the host for the time, so a board whose clock was never set would find certificates valid that
an ESP32 refuses. A clock that is more than a day off the host's therefore fails the handshake here, with
the error of the ESP32 port. (Shorter errors cannot matter: nobody issues certificates for hours.)
"""

import ssl
import time

_DAY = 86400
_wrap_socket = ssl.SSLContext.wrap_socket


def _checked(self, *args, **kwargs):
    if abs(time.offset) > _DAY and self.verify_mode != ssl.CERT_NONE:
        ahead = time.offset > 0
        raise ValueError("The certificate " + ("has expired" if ahead else "validity starts in the future"))
    return _wrap_socket(self, *args, **kwargs)


ssl.SSLContext.wrap_socket = _checked
