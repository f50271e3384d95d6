"""A labgrid lab on loopback: the real coordinator and exporter, and a virtual board behind them."""

import contextlib
import http.server
import os
import re
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from host_tools.hil.lab import VARIABLE
from host_tools.hil.rigs import Place
from host_tools.paths import ROOT
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig, boards_on_bench

BOARD = "esp32-1"
"""The place that has the board, and a switch for its supply."""
LONELY = "lonely"
"""A place whose exporter is gone."""

_PLACES = f"""
{BOARD}:
  matches: [{{exporter: bench, group: desk, cls: "*"}}]
{LONELY}:
  matches: [{{exporter: attic, group: "*", cls: "*"}}]
"""
_RESOURCES = """
desk:
  NetworkSerialPort: {{host: 127.0.0.1, port: {port}}}
  NetworkPowerPort: {{model: rest, host: "{switch}", index: 1}}
"""


class Lab:
    """What runs, and `labgrid-client` by hand."""

    def __init__(self, folder: Path, rig: Rig, switch: "Switch") -> None:
        self.rig = rig
        self.switch = switch
        self._folder = folder
        self.client = labgrid() / "labgrid-client"
        self._started: list[subprocess.Popen[bytes]] = []
        (folder / "places.yaml").write_text(_PLACES)  # as the coordinator keeps them
        said = self._start("labgrid-coordinator", "-l", "127.0.0.1:0", until=r"listening on \S+:(\d+)")
        self.coordinator = f"127.0.0.1:{said[1]}"
        resources = folder / "resources.yaml"
        resources.write_text(_RESOURCES.format(port=urlsplit(self.rig.url).port, switch=switch.url))
        words = ("-c", self.coordinator, "-n", "bench", str(resources))
        self._start("labgrid-exporter", *words, until="creating poll task")

    def place(self, name: str = BOARD) -> Place:
        """As a rig file says it."""
        return Place(name=name, coordinator=self.coordinator, client=str(self.client))

    def by_hand(self, *words: str, user: str = "bob") -> str:
        """What `labgrid-client` says when this user calls it."""
        done = subprocess.run(
            [self.client, "-x", self.coordinator, "-p", BOARD, *words],
            env={**os.environ, "LG_USERNAME": user},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def holder(self) -> str | None:
        """Who has the board, `HOST/USER`."""
        found = re.search(r"^  acquired: (.*)$", self.by_hand("show"), re.MULTILINE)
        assert found
        return None if found[1] == "None" else found[1]

    def is_forgotten(self) -> bool:
        """Whether nobody has the board, and it is kept for nobody."""
        return self.holder() is None and not self.by_hand("reservations")

    def _start(self, name: str, *words: str, until: str) -> re.Match[str]:
        log = self._folder / f"{name}.log"
        with log.open("wb") as said:
            process = subprocess.Popen(
                [labgrid() / name, *words],
                cwd=self._folder,
                stdout=said,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._started.append(process)
        wait_until(
            lambda: re.search(until, log.read_text()) or process.poll() is not None, f"{name} to say {until}"
        )
        found = re.search(until, log.read_text())
        assert found, log.read_text()
        return found

    def stop(self) -> None:
        """End coordinator and exporter, as a power cut does."""
        for process in self._started:
            process.kill()
            process.wait()


def labgrid() -> Path:
    """The folder of labgrid's programs; without one the test is skipped."""
    named = os.environ.get(VARIABLE)
    folder = Path(named).parent if named else ROOT / "build" / "labgrid" / "bin"
    if not (folder / "labgrid-coordinator").exists():
        pytest.skip("labgrid is not installed: make build/labgrid")
    return folder


@contextlib.contextmanager
def labgrid_lab() -> Iterator[Lab]:
    """A lab with the places above."""
    labgrid()
    with tempfile.TemporaryDirectory() as folder, boards_on_bench() as [rig], Switch(rig) as switch:
        lab = Lab(Path(folder), rig, switch)
        try:
            yield lab
        finally:
            lab.stop()


class Switch(socketserver.ThreadingTCPServer):
    """A switch as labgrid's model `rest` wants it: its relay 1 is the board's supply."""

    def __init__(self, rig: Rig) -> None:
        switch = self
        self.works = True

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                on = self.rfile.read(int(self.headers["Content-Length"])) == b"1"
                if switch.works:
                    (rig.power_on if on else rig.power_off)()
                self.send_response(200 if switch.works else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/{{index}}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
