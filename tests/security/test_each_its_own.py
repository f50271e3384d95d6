"""Promise 5: what a node with a good certificate may not do, at Mosquitto and at the embedded broker."""

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from host_tools.broker import Kind
from host_tools.broker.mosquitto import find_executable
from host_tools.ca import CertificateAuthority
from host_tools.pki import files
from host_tools.pki.names import CONSOLE, OPERATOR
from tests.host.mqtt_clients import Client, Refused
from tests.security.ground import broker, hierarchy, new_authority, unlock

KINDS: list[Any] = [
    pytest.param("mosquitto", marks=pytest.mark.skipif(not find_executable(), reason="not installed")),
    "embedded",
]
A, B = "n01", "n011"
"""B's id begins with A's: a rule that compared beginnings would mix them up."""
B_TOPICS = [f"limpet/{B}/{leaf}" for leaf in ("state", "about", "data", "event", "health", "cmd/1", "rsp/1")]
FILTERS = [
    *("#", "+/#", "+/+/+", "+/+/+/+", "limpet/#", "limpet/+/#", "limpet/+/cmd/+", f"limpet/+/cmd/{B}"),
    *(f"limpet/{B}/#", f"limpet/{B}/cmd/#", f"limpet/{B}/cmd/1", f"limpet/{B}/state", f"limpet/{A}1/cmd/#"),
    *("$SYS/#", "$SYS/broker/version", "$SYS/broker/clients/connected"),
    *(f"$share/thieves/limpet/{B}/cmd/#", "$share/thieves/limpet/#", "$share/thieves/#"),
]
STAYS = b"what was there"


@dataclass
class Place:
    """A broker, and the folder with everybody's credentials."""

    broker: Any
    pki: Path

    def client(self, stem: str, client_id: str | None = None, **options: Any) -> Client:
        return Client(self.broker, self.pki, stem, client_id or stem, **options)

    @contextlib.contextmanager
    def watch(self) -> Iterator[Client]:
        """A console that sees everything that goes through."""
        with self.client(CONSOLE) as console:
            assert console.subscribe("limpet/#")
            yield console


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    kind: Kind = request.param
    folder = tmp_path_factory.mktemp("own")
    pki = folder / "pki"
    with CertificateAuthority.open(new_authority(folder), unlock()) as authority:
        signs = hierarchy(authority)
        for node in (A, B, "n03"):
            signs.node(node).save(pki, node)
        authority.issue_client("console").save(pki, CONSOLE)
        authority.issue_client("operator").save(pki, OPERATOR)
        files.write_private(pki / "ca.crt", authority.folder.trusted.read_bytes())
        with broker(kind, authority, folder / "broker") as port:
            yield Place(SimpleNamespace(port=port), pki)


@pytest.mark.security(5, "IEC 62443-4-2 CR 2.1", "IEC 62443-4-2 CR 3.8", "ETSI EN 303 645 5.5-5")
def test_a_node_does_not_write_as_another(place: Place) -> None:
    """What a node publishes under another's topics, retained or not, reaches nobody; commands to another and
    topics outside the prefix neither."""
    with place.watch() as console, place.client(B) as b:
        b.publish(f"limpet/{B}/state", STAYS, retain=True)
        assert console.until(f"limpet/{B}/state", STAYS) == []
        for topic in (*B_TOPICS, "limpet", "limpet/", f"limpet/{CONSOLE}/x", "$SYS/broker/x", "other/x", "x"):
            with place.client(A) as a, contextlib.suppress(ssl.SSLError, ConnectionError):
                a.send(topic, b"forged", retain=True)  # the embedded broker hangs up, Mosquitto drops it
        with place.client(A) as a:
            a.publish(f"limpet/{A}/data", b"own")
        assert console.until(f"limpet/{A}/data", b"own") == [], "forged messages came through"
    with place.watch() as late:
        assert late.next_message() == (f"limpet/{B}/state", STAYS), "what was retained was replaced"


@pytest.mark.security(5, "IEC 62443-4-2 CR 2.1", "IEC 62443-4-2 CR 4.1", "ETSI EN 303 645 5.5-7")
def test_a_node_does_not_read_what_is_anothers(place: Place) -> None:
    """By no filter, wildcard, shared subscription or $SYS does a node get a command or a reading of another,
    or anything of the broker's; its own commands it gets."""
    with place.watch() as console, place.client(OPERATOR) as operator, place.client(B) as b:
        assert b.subscribe(f"limpet/{B}/cmd/+")
        with place.client(A) as a:
            assert a.subscribe(f"limpet/{A}/cmd/+")
            for each in FILTERS:
                with contextlib.suppress(Refused):
                    a.subscribe(each)
            operator.publish(f"limpet/{B}/cmd/1", b"secret")
            assert b.next_message() == (f"limpet/{B}/cmd/1", b"secret"), "the command was really sent"
            b.publish(f"limpet/{B}/data", b"secret")
            console.until(f"limpet/{B}/data", b"secret")
            operator.publish(f"limpet/{A}/cmd/2", b"own")
            got = a.until(f"limpet/{A}/cmd/2", b"own")
    # Its own command may come more than once, where filters overlap (MQTT 3.1.1 section 3.3.5).
    assert set(got) <= {(f"limpet/{A}/cmd/2", b"own")}


@pytest.mark.security(5, "IEC 62443-4-2 CR 1.2", "IEC 62443-4-2 CR 3.8", "ETSI EN 303 645 5.5-5")
@pytest.mark.parametrize("name", [B, OPERATOR, CONSOLE])
def test_a_node_does_not_take_anothers_place(place: Place, name: str) -> None:
    """Who connects under another's client id does not become it: the other stays connected, and gets its
    messages alone."""
    mine = f"limpet/{name}/cmd/+" if name == B else "limpet/+/data"
    with (
        place.client(name) as owner,
        place.client("n03") as third,
        place.client(OPERATOR if name != OPERATOR else CONSOLE),
    ):
        assert owner.subscribe(mine)
        try:
            with place.client(A, name) as thief:
                thief.subscribe(mine)
                thief.send(f"limpet/{B}/cmd/3", b"forged")
                if name == B:
                    owner.publish(f"limpet/{B}/cmd/9", b"to the owner")
                else:
                    third.publish("limpet/n03/data", b"to the owner")
                assert owner.next_message()[1] == b"to the owner"
                # It may have been let in as itself, and then has got nothing but its own.
                assert thief.subscribe(f"limpet/{A}/cmd/+")
                thief.publish(f"limpet/{A}/cmd/4", b"own")
                assert set(thief.until(f"limpet/{A}/cmd/4", b"own")) <= {(f"limpet/{A}/cmd/4", b"own")}
        except (Refused, ssl.SSLError, ConnectionError):
            pass
        assert not owner.gone.is_set(), f"{name} was put out"
        if name == B:
            owner.publish(f"limpet/{B}/cmd/10", b"still here")
        else:
            third.publish("limpet/n03/data", b"still here")
        assert owner.next_message()[1] == b"still here"


@pytest.mark.security(5, "IEC 62443-4-2 CR 2.1", "ETSI EN 303 645 5.5-5")
@pytest.mark.parametrize("topic", [f"limpet/{B}/state", f"limpet/{B}/cmd/1", "limpet/x"])
def test_a_node_leaves_no_will_for_another(place: Place, topic: str) -> None:
    """A last will on a topic that is not the node's own reaches nobody; one on its own topic does."""
    with place.watch() as console:
        with contextlib.suppress(Refused), place.client(A, will=(topic, b"forged")) as a:
            a.vanish()
        with place.client(A, will=(f"limpet/{A}/state", b"own")) as a:
            a.vanish()
        got = console.until(f"limpet/{A}/state", b"own")
    assert b"forged" not in [payload for _, payload in got]
