"""A board in its raw REPL: its key and its request are made there, what it needs is put on it."""

import base64
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from host_tools.errors import LimpetError
from host_tools.pki.partition import certificate_fields
from host_tools.provisioning.on_board import CODE
from host_tools.repl import BoardError, Repl

_KEY_S = 90.0  # an ESP32 takes some ten seconds for a key and a signature
_HEADER = 24  # characters of a piece's first line, in base64
_LEAST = 48  # bytes in a piece


class InstallError(LimpetError):
    """The board cannot do what it is told."""


@dataclass(frozen=True)
class Board:
    """What a board in its REPL says of itself."""

    mac: str
    fingerprint: str | None
    """Of the certificate that it would show; None without a usable identity."""


class Installation:
    """A board in its raw REPL; it restarts at the end of the `with` block.

    Raises as Repl does, and InstallError when the board refuses.
    """

    def __init__(self, port: str, stop: threading.Event) -> None:
        self._port = port
        self._repl = Repl(port, CODE, stop)

    def __enter__(self) -> Self:
        self._repl.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._repl.__exit__(kind, error, trace)

    def look(self) -> Board:
        """Who is there."""
        mac, fingerprint, free = self._ask("report()")
        self._repl.has_memory(free)
        return Board(mac, fingerprint)

    def request(self, node_id: str) -> bytes:
        """The board's request for a certificate (DER), with a key that it makes unless one waits already."""
        return base64.b64decode(self._ask(f"request({node_id!r})", _KEY_S))

    def install(
        self,
        chain: Sequence[bytes],
        trusted: Sequence[bytes],
        progress: Callable[[int, int], None],
        moment: Callable[[str], None],
    ) -> str | None:
        """Give the board its certificates; the fingerprint of the one that it shows from now on."""
        fields = certificate_fields(chain, trusted)
        self._send("take_identity", fields, progress)
        moment("install: put")
        self._ask(f"enrol.commit({len(fields)},{zlib.crc32(fields)})")
        moment("install: committed")
        return self.settled()

    def settled(self) -> str | None:
        """Drop the older of two identities; the fingerprint of the one that stays."""
        shown: str | None = self._ask("settled()")
        return shown

    def put_settings(self, settings: bytes, progress: Callable[[int, int], None]) -> None:
        """Write the settings beside those that count."""
        self._send("take_settings", settings, progress)

    def adopt_settings(self, digest: str) -> str:
        """Make the settings that were put count, if they have this SHA-256; that of those which count now."""
        return str(self._ask(f"adopt({digest!r})"))

    def _send(self, function: str, data: bytes, progress: Callable[[int, int], None]) -> None:
        at = end = 0

        def piece(room: int) -> bytes:
            nonlocal end
            end = min(len(data), at + max(_LEAST, (room - _HEADER) // 4 * 3))
            return b"%d\n" % at + data[at:end]

        while at < len(data):
            self._told(lambda: self._repl.give(function, piece))
            at = end
            progress(at, len(data))

    def _ask(self, expression: str, seconds: float | None = None) -> Any:
        return self._told(lambda: self._repl.ask(expression, seconds))

    def _told(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except BoardError as error:
            kind, _, text = error.last_line.partition(": ")
            if kind in ("EnrolError", "IdentityError"):
                raise InstallError(f"{self._port}: the board's identity partition: {text}.") from None
            raise
