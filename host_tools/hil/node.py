"""The fixture `node`: the board with its firmware, as a test sees it, through its serial port alone."""

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from host_tools import deploy, image
from host_tools.boards import Board as BoardFile
from host_tools.errors import LimpetError, UsageError
from host_tools.hil.board import Board, HilError, NodeImage
from host_tools.hil.board.session import Files, Flash, Session, session
from host_tools.hil.listener import Listener
from host_tools.hil.rigs import channels
from host_tools.hil.timeline import Timeline
from host_tools.line import answerback
from host_tools.partitions import SECTOR
from host_tools.pki import partition
from host_tools.userfile import did_you_mean

_ASK_AGAIN_S = 1.0
_OPTIONAL = ("spool", "profile", "way_in", "batch_ms", "keepalive", "health_s", "retry_ms")
"""Settings that a node may be without (docs/formats.md)."""
_LEAVES = {"bme280": channels.BME280, "ds18b20": channels.DS18B20}
_ANSWER = re.compile(answerback.ANSWER.pattern.decode())


class Node:
    """`install` comes first."""

    def __init__(self, board: Board, timeline: Timeline, node_id: str) -> None:
        self._board = board
        self._timeline = timeline
        self.id = node_id
        """What its topics are called by: that of the identity that it has, or had last."""
        self._baseline: NodeImage | None = None
        self._image: NodeImage | None = None
        self._session: Session | None = None
        self.files = Files(self.repl)
        """Its files. Outside of `repl` each call stops the node, and resets it."""
        self.flash = Flash(self.repl)
        """Its partitions, likewise."""

    @property
    def mac(self) -> str:
        return self._board.mac

    @property
    def port(self) -> str:
        """Its serial port; `port_free` lends it."""
        return self._board.port

    @property
    def log(self) -> Listener:
        """What the board says."""
        return self._board.log

    @property
    def image(self) -> NodeImage:
        """What was installed last."""
        if self._image is None:
            raise HilError("Nothing is installed on the node yet: install an image first.")
        return self._image

    @property
    def settings(self) -> dict[str, Any]:
        """Those that were installed last, as the node reads them; none when they were no JSON."""
        try:
            found = json.loads(self.image.settings)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def channels(self) -> tuple[str, ...]:
        """What its sensors measure: "bme280/temperature", …"""
        return tuple(
            f"{sensor['name']}/{leaf}"
            for sensor in self.settings.get("sensors", [])
            for leaf in _LEAVES.get(sensor["kind"]) or (sensor["quantity"],)
        )

    # What it does

    def says(self, text: str | re.Pattern[str], seconds: float = 30.0, since: int | None = None) -> str:
        """Wait until the board says that, and give it; since a mark of the log, or else since the board was
        last started, switched or reset. A pattern is looked for in whole lines. Raises AssertionError."""
        return self.log.wait_for(text, since, seconds)[0]

    def run_for(self, seconds: float) -> None:
        """Let it work."""
        self._timeline.add("node", f"left alone for {seconds:g} s")
        time.sleep(seconds)

    def reset(self) -> None:
        """Press its reset button."""
        self._timeline.add("node", "reset")
        self._board.reset()

    def answers(self, seconds: float = 10.0) -> str | None:
        """Ask the firmware who it is, as `limpet devices` does, and give the node's id; "-" where it has no
        settings or no identity, None when nobody answers.
        """
        mark = self.log.mark()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.log.is_open:
                self.log.write(answerback.ASK)
            found = self.log.find(_ANSWER, min(seconds, _ASK_AGAIN_S), mark)
            if found:
                return found[2]
        return None

    # What it is made of

    def install(self, wanted: NodeImage) -> None:
        """Have exactly that on the board, and start it; `restore` comes back to it."""
        self._baseline = wanted
        self._install(wanted)

    def restore(self) -> None:
        """Have on it what was installed at first; what it has kept meanwhile is gone."""
        if self._baseline is None:
            raise HilError("Nothing is installed on the node yet: install an image first.")
        self._install(self._baseline)

    def configure(self, **changes: object) -> None:
        """Change settings as they stand in the node's JSON, such as `keepalive=5`, and install it anew; None
        takes a setting away. Raises UsageError for a setting that there is not."""
        known = [*self.settings, *_OPTIONAL]
        for key in changes:
            if key not in known:
                raise UsageError(f"A node has no setting '{key}'. {did_you_mean(key, known)}")
        settings = {**self.settings, **changes}
        self.provision(settings={key: value for key, value in settings.items() if value is not None})

    def provision(
        self,
        *,
        identity: bytes | None = None,
        settings: Mapping[str, object] | bytes | None = None,
        files: Mapping[str, bytes | None] | None = None,
        spool_sectors: int | None = None,
    ) -> None:
        """Install it anew with another identity partition (b"" for a blank one), other settings (bytes as
        they are, valid or not), other files beside those that it has (None takes one away), or a spool of so
        many sectors of 4 KiB (0 for none at all)."""
        all_files = {**self.image.files, **(files or {})}
        if settings is not None:
            encoded = settings if isinstance(settings, bytes) else json.dumps(settings).encode()
            all_files[image.SETTINGS_NAME] = encoded
        self._install(
            replace(
                self.image,
                board=self.image.board
                if spool_sectors is None
                else _with_spool(self.image.board, spool_sectors),
                files={path: data for path, data in all_files.items() if data is not None},
                identity=self.image.identity if identity is None else identity,
            )
        )

    def deploy(self, folder: Path) -> None:
        """Bring the firmware in a folder onto it as `limpet deploy` does, with the settings that it has.

        Raises LimpetError.
        """
        files = image.firmware_files(folder) | {image.SETTINGS_NAME: self.image.settings}
        with self.port_free() as port:
            [result] = deploy.deploy_all([port], lambda: files, lambda *_: None)
        if result.error:
            raise result.error
        self._image = replace(self.image, files=files)

    def _install(self, wanted: NodeImage) -> None:
        self._timeline.add("node", "installed anew", image=wanted.sha256)
        self._board.install(wanted)
        self._image = wanted
        with contextlib.suppress(partition.IdentityDamagedError):
            self.id = partition.decode(wanted.identity or b"\xff" * partition.PARTITION_SIZE).identity.node_id

    # Within it

    def enter(self, code: str) -> None:
        """Stop the firmware, and type this at MicroPython's prompt, as one paste: for code that does not come
        back. What it prints is in the log; the firmware runs again after a reset, which the code may be.

        Raises HilError when there is no prompt.
        """
        self._timeline.add("node", "code typed at its prompt")
        self.log.prompt()
        mark = self.log.mark()
        self.log.write(b"\x05")
        self.log.wait_for("=== ", mark)
        for line in code.strip("\n").splitlines():
            mark = self.log.mark()
            self.log.write(line.encode() + b"\r")
            self.log.wait_for("\n=== ", mark)
        self.log.write(b"\x04")

    @property
    def is_stopped(self) -> bool:
        """Whether it stands in the raw REPL for us."""
        return self._session is not None

    @contextlib.contextmanager
    def repl(self) -> Iterator[Session]:
        """The board with its firmware stopped, to run Python on it and to look into its files and its flash.
        At the end it is reset, and the firmware runs again. Within it another `repl` is the same one."""
        if self._session:
            yield self._session
            return
        self._timeline.add("node", "stopped")
        try:
            with self.log.paused() as port, session(port, self.image.board.partition_table()) as opened:
                self._session = opened
                yield opened
        except BaseException:
            self._session = None
            with contextlib.suppress(LimpetError):  # what went wrong first is what is told
                self._start()
            raise
        self._session = None
        self._start()

    def _start(self) -> None:
        """Have the firmware run again, unless the board was switched off meanwhile."""
        if self._board.power is None or self._board.power.is_on:
            self.reset()

    @contextlib.contextmanager
    def port_free(self) -> Iterator[str]:
        """While the `with` block runs the port is a program's, such as `limpet deploy` or esptool. What the
        board says until the port is back is not in the log: reset it for a whole boot."""
        self._timeline.add("node", "its port is lent")
        with self.log.paused() as port:
            yield port
            self.log.begin()
        self._timeline.add("node", "its port is ours again")


def _with_spool(board: BoardFile, sectors: int) -> BoardFile:
    """The board with another spool, which begins where it did."""
    table = [each for each in board.partition if each.name != "spool"]
    if sectors:
        [spool] = [each for each in board.partition if each.name == "spool"]
        table.append(spool.model_copy(update={"size": sectors * SECTOR}))
    return board.model_copy(update={"partition": table})
