"""The embedded broker, for machines without Mosquitto: amqtt in a process of its own, and its start."""

import json
import re
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from host_tools.broker.config import BrokerConfig
from host_tools.broker.process import BrokerProcess, PortBusyError, StartError
from host_tools.pki import files

KIND = "embedded"

_READY = re.compile(r"^listening on port (\d+)$", re.MULTILINE)


def title() -> str:
    """What the broker is, for people."""
    return f"embedded broker (amqtt {version('amqtt')})"


def start(config: BrokerConfig, folder: Path) -> tuple[BrokerProcess, int]:
    """Start the broker with its files in `folder`, and return it with its port once it listens.

    Raises LimpetError if the port is busy or the broker ends for another reason.
    """
    settings = folder / "embedded.json"
    files.write_private(settings, json.dumps(asdict(config), default=str).encode())
    command = [sys.executable, "-m", "host_tools.broker.amqtt_server", str(settings)]
    process = BrokerProcess("The embedded broker", command, folder / "broker.log")
    try:
        return process, int(process.wait_ready(_READY)[1])
    except StartError as error:
        if "address already in use" not in error.last_line.lower():
            raise
        raise PortBusyError(config.address, config.port) from error
