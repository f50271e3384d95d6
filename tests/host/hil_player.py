"""A player for a node: an MQTT client with a node's identity, for tests of what watches nodes."""

import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, cast

from host_tools.pki import files
from host_tools.pki.partition import Identity
from tests.host.mqtt_clients import Client

EPOCH = "1a2b3c4d"


class HasPort(Protocol):
    """A broker, or a link to one."""

    @property
    def port(self) -> int: ...


@dataclass(frozen=True)
class Named:
    """A node of which one knows the name alone."""

    id: str


def pem_files(identity: Identity, folder: Path, stem: str) -> Path:
    """The identity's certificate and key as PEM; the path of the certificate."""
    key = ssl.DER_cert_to_PEM_cert(identity.key).replace("CERTIFICATE", "EC PRIVATE KEY")
    files.write_private(folder / f"{stem}.key", key.encode())
    files.write_private(folder / f"{stem}.crt", ssl.DER_cert_to_PEM_cert(identity.chain[0]).encode())
    return folder / f"{stem}.crt"


def pack(node_id: str, seqs: Sequence[int], taken: float | None = None, **more: Any) -> bytes:
    """A SenML pack with these readings of a thermometer, all taken at once."""
    first = {"bn": f"{node_id}/bme280/temperature", "bt": round(taken or time.time(), 3), "epoch": EPOCH}
    record: dict[str, Any] = {"bu": "Cel", "v": 21.5, **more}
    steps = [{"step": after - before, "v": 21.5} for before, after in pairwise(seqs)]
    return json.dumps([{**first, "seq": seqs[0], **record}, *steps]).encode()


class Player(Client):
    """Connects to a port of this machine when its `with` block begins. `id` is its node id."""

    def __init__(self, place: HasPort, folder: Path, identity: Identity, **options: Any) -> None:
        self.id = identity.node_id
        pem_files(identity, folder, self.id)
        (folder / "ca.crt").write_bytes(ssl.DER_cert_to_PEM_cert(identity.cas[0]).encode())
        super().__init__(
            cast(Any, place),
            folder,
            self.id,
            self.id,
            will=(f"limpet/{self.id}/state", b'{"up":false}'),
            **options,
        )

    def say(self, leaf: str, payload: bytes | dict[str, Any], *, retain: bool = False) -> None:
        """Publish on one of its leaves, and wait for the PUBACK."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.publish(f"limpet/{self.id}/{leaf}", data, retain=retain)

    def measure(self, *seqs: int, taken: float | None = None) -> None:
        """Publish a pack of readings."""
        self.say("data", pack(self.id, seqs, taken))
