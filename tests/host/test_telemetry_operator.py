"""What an operator makes of what a broker hands out: nodes are not trusted to say it well."""

import threading
from pathlib import Path

import pytest

from host_tools.telemetry.operator import CalledOffError, Heard, NodeRefusedError, Operator
from host_tools.telemetry.subscriber import Message, TlsFiles

FILES = TlsFiles(Path("ca.crt"), Path("operator.crt"), Path("operator.key"))


@pytest.fixture
def operator() -> Operator:
    """One that is not connected."""
    return Operator("localhost", 8883, FILES, prefix="plant/3")


def take(operator: Operator, topic: str, payload: bytes, *, retained: bool = False) -> None:
    operator._take(Message(f"plant/3/{topic}", payload, 0.0, retained))


def test_what_it_hears(operator: Operator) -> None:
    take(operator, "n01/state", b'{"up":true,"boot":3}', retained=True)
    take(operator, "n01/about", b'{"certificate":"ab"}', retained=True)
    assert operator.of("n01") == Heard(is_up=True, certificate="ab")
    take(operator, "n01/about", b'{"certificate":"cd"}')
    take(operator, "n01/event", b'{"event":"identity","text":"it works"}')
    take(operator, "n01/event", b'{"event":"clock","text":"no answer"}')
    assert operator.of("n01") == Heard(True, "cd", 1, "it works", 1)
    take(operator, "n01/state", b'{"up":false}')
    assert operator.heard() == {"n01": Heard(False, "cd", 1, "it works", 1)}


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"7", b'"up"', b"\xff\xfe", b'{"up":1,"up":1}', b"[" * 5000, b'{"up":NaN}'],
)
@pytest.mark.parametrize("leaf", ["state", "about", "event", "rsp/ab"])
def test_what_is_no_message(operator: Operator, leaf: str, payload: bytes) -> None:
    take(operator, f"n01/{leaf}", payload)
    assert operator.heard() == {}


def test_words_of_the_wrong_kind(operator: Operator) -> None:
    take(operator, "n01/state", b'{"up":"yes"}')
    take(operator, "n01/about", b'{"certificate":[]}')
    take(operator, "n01/event", b'{"event":"identity","text":"\\u001b[2J"}')
    assert operator.of("n01") == Heard(abouts=1)
    for topic in ("-n/state", "\x1b[2J/state", "n/n/state", "limpet.operator/state"):
        take(operator, topic, b'{"up":true}')
    assert list(operator.heard()) == ["n01"]


class Answering(Operator):
    """Answers at once, in place of a node."""

    answer = b"{}"

    def _publish(self, node_id, key, command, end):
        take(self, f"{node_id}/rsp/never-asked", b'{"error":"not mine"}')
        take(self, f"{node_id}/rsp/{key[1]}", self.answer)
        return self._answers[key]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"error":"no key waits"}', "n01 refuses the command 'put': no key waits."),
        (b'{"error":"\\n\\n"}', "n01 refuses the command 'put': it does not say why."),
        (b'{"error":null}', "n01 refuses the command 'put': it does not say why."),
    ],
)
def test_a_node_that_refuses(answer: bytes, said: str) -> None:
    operator = Answering("localhost", 8883, FILES, prefix="plant/3")
    operator.answer = answer
    with pytest.raises(NodeRefusedError) as refused:
        operator.ask("n01", b"put 0 \xff\x00")
    assert str(refused.value) == said
    operator.answer = b'{"error":null,"uptime":3}'
    assert operator.ask("n01", b"health")["uptime"] == 3


def test_commands_fit_into_a_packet(operator: Operator) -> None:
    for node_id in ("n", "n" * 32):
        topic = len(f"plant/3/{node_id}/cmd/01234567")
        assert 1 + 2 + 2 + topic + 2 + operator.room(node_id) == 256


def test_who_waits_is_let_go(operator: Operator) -> None:
    let_go = threading.Event()

    def wait() -> None:
        with pytest.raises(CalledOffError):
            operator.pause(60)
        let_go.set()

    thread = threading.Thread(target=wait)
    thread.start()
    operator.call_off()
    thread.join(20)
    assert let_go.is_set()
