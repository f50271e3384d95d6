"""Ends the connection of a client that was revoked while it was connected.

Mosquitto looks at a certificate when a connection begins, and never again (seen with 2.0.11: SIGHUP loads a
new CRL, and who is in stays in). But a second client with the same id ends the first one's connection
(MQTT 3.1.1 §3.1.4-2). So there is a second listener, on a socket file in a folder of ours, and one user who
may come in there, with a password that is made for this run and known to nobody else. He may neither read nor
write any topic; all that he does is to take over a client id, with a clean session, and to leave.
"""

import base64
import hashlib
import os
import secrets
import socket
from pathlib import Path

from host_tools.broker import wire
from host_tools.errors import LimpetError

USER = "_doorkeeper"
"""No certificate of ours bears this name: neither node ids nor consoles have a `_`."""

ACL = f"user {USER}\ntopic deny #\n"
"""His lines of the ACL file: nothing."""

_DEADLINE = 10.0
_ITERATIONS = 10_000


class KickError(LimpetError):
    """A client could not be put out."""


class Doorkeeper:
    """The user, his password and his door. `folder` must be ours, `hall` Mosquitto's, who makes the socket
    file there."""

    def __init__(self, folder: Path, hall: Path) -> None:
        self._socket, self._passwords = hall / "door", folder / "passwords"
        self._password = secrets.token_urlsafe(32)

    def passwords(self) -> tuple[Path, bytes]:
        """Mosquitto's password file: where it is to stand, and its text."""
        salt = os.urandom(12)
        digest = hashlib.pbkdf2_hmac("sha512", self._password.encode(), salt, _ITERATIONS)
        fields = ["", "7", str(_ITERATIONS), *(base64.b64encode(each).decode() for each in (salt, digest))]
        return self._passwords, f"{USER}:{'$'.join(fields)}\n".encode()

    def configuration(self) -> str:
        """What is added to mosquitto.conf."""
        return f"\npassword_file {self._passwords}\n\nlistener 0 {self._socket}\nmax_connections 2\n"

    def put_out(self, client_id: str) -> None:
        """End the connection of the client `client_id`, and drop its session with all that waits in it.

        Its last will goes out. Raises KickError if the broker does not let us.
        """
        try:
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(_DEADLINE)
                door.connect(str(self._socket))
                door.sendall(wire.connect(client_id, (USER, self._password)))
                answer = wire.receive(door)
                if answer is None or answer.kind != wire.CONNACK or answer.body[1:2] != b"\x00":
                    raise KickError(f"Mosquitto did not let the doorkeeper put out {client_id}.")
                door.sendall(wire.DISCONNECT)
        except OSError as error:
            raise KickError(
                f"Mosquitto's second listener does not answer: {error.strerror or error}."
            ) from None
