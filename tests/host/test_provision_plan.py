"""What provisioning decides without I/O: ids, what the journal says was done, and the links of the chain."""

import datetime
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from host_tools.errors import LimpetError, UsageError
from host_tools.fleet import CLAIMED, IN_SERVICE, Entry, Node
from host_tools.provisioning import links
from host_tools.provisioning.naming import USUAL, Naming, is_done, refusal
from host_tools.provisioning.steps import Ready, ready

MAC = "24:0a:c4:00:00:01"
FINGERPRINT = "ab" * 32
DONE = {"image": "i" * 64, "settings": "s" * 64, "fingerprint": FINGERPRINT}


def node(node_id: str, state: str = IN_SERVICE) -> Node:
    return Node(node_id, MAC, state, "2026-11-22T10:00:00+00:00", provisioned_at="2026-11-22T10:01:00+00:00")


def entries(*steps: str | tuple[str, dict[str, Any]], node_id: str = "n01") -> list[Entry]:
    pairs = [(step, {}) if isinstance(step, str) else step for step in steps]
    return [Entry("2026-11-22T10:00:00+00:00", MAC, node_id, step, facts) for step, facts in pairs]


class TestNaming:
    def test_the_usual_pattern(self) -> None:
        assert Naming.checked(None, None, None, 3) == Naming(pattern=USUAL)

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (("n01", "n{n}", None, 1), "Name the node by --id, by --ids or by --replace: one of the three."),
            (("n01", None, None, 2), "--id names one node: give one --port, or a pattern by --ids."),
            ((None, None, "n01", 0), "--replace names one node: give one --port, or a pattern by --ids."),
            (
                ("n 01", None, None, 1),
                "--id 'n 01' is no node id: use 1 to 32 letters, digits and '-', beginning with a letter or "
                "digit.",
            ),
        ],
    )
    def test_what_cannot_be_carried_out(self, words: tuple[Any, ...], sentence: str) -> None:
        with pytest.raises(UsageError, match=re.escape(sentence)):
            Naming.checked(*words)

    @pytest.mark.parametrize("pattern", ["line3", "{n}{n}", "line 3-{n}", "{m}"])
    def test_a_pattern_that_makes_no_ids(self, pattern: str) -> None:
        with pytest.raises(UsageError):
            Naming.checked(None, pattern, None, 1)

    @pytest.mark.parametrize(
        ("naming", "node_id", "means"),
        [
            (Naming(pattern="line3-{n:03}"), "line3-007", True),
            (Naming(pattern="line3-{n:03}"), "line3-1234", True),
            (Naming(pattern="line3-{n:03}"), "line4-007", False),
            (Naming(pattern="a-{n}-b"), "a-7-b", True),
            (Naming(pattern="a-{n}-b"), "a-7", False),
            (Naming(node_id="n01"), "n01", True),
            (Naming(node_id="n01"), "n02", False),
            (Naming(replace="n01"), "n01", True),
        ],
    )
    def test_what_it_means(self, naming: Naming, node_id: str, means: bool) -> None:
        assert naming.means(node_id) is means


class TestGuard:
    def test_a_board_that_nobody_knows(self) -> None:
        assert refusal(None, Naming(node_id="n01")) is None

    def test_a_board_in_service_as_another_node(self) -> None:
        assert refusal(node("n01"), Naming(node_id="n02")) == (
            f"the board {MAC} is the node 'n01', in service since 2026-11-22: run `limpet decommission n01` "
            "first, or name that node."
        )
        assert refusal(node("line2-001"), Naming(pattern="line3-{n:03}"))

    def test_a_board_that_was_begun_keeps_its_id(self) -> None:
        assert refusal(node("line2-001", CLAIMED), Naming(pattern="line3-{n:03}")) is None
        assert refusal(node("n01", CLAIMED), Naming(node_id="n02"))

    @pytest.mark.parametrize(
        ("holder", "naming", "done"),
        [
            (None, Naming(node_id="n01"), False),
            (node("n01"), Naming(node_id="n01"), True),
            (node("n01", CLAIMED), Naming(node_id="n01"), False),
            (node("n01"), Naming(replace="n01"), False),
        ],
    )
    def test_what_is_done_already(self, holder: Node | None, naming: Naming, done: bool) -> None:
        assert is_done(holder, naming) is done


class TestJournal:
    def test_nothing_was_done(self) -> None:
        assert ready([], "n01") is None
        assert ready(entries("detect", "claimed", "guard", "flash", "boot", "install"), "n01") is None

    @pytest.mark.parametrize("after", [(), ("start",), ("start", "proof"), ("detect", "flash", "start")])
    def test_all_but_the_proof(self, after: tuple[str, ...]) -> None:
        done = entries("claimed", "guard", "flash", ("settings", DONE), *after)
        assert ready(done, "n01") == Ready("i" * 64, "s" * 64, FINGERPRINT)

    def test_a_run_that_went_on_with_the_proof(self) -> None:
        again = entries(("settings", DONE), "start", "detect", ("guard", {"ready": True}), "flash")
        assert ready(again, "n01")

    @pytest.mark.parametrize(
        "after", ["no proof", "claimed", "replaced", "retired", ("guard", {"ready": False})]
    )
    def test_what_begins_it_anew(self, after: str | tuple[str, dict[str, Any]]) -> None:
        assert ready(entries(("settings", DONE), "start", after), "n01") is None

    def test_the_settings_of_another_node(self) -> None:
        assert ready(entries(("settings", DONE), node_id="n02"), "n01") is None


class TestLinks:
    """Each link has a sentence when it does not hold."""

    def broken(self, check: Callable[[], object]) -> str:
        with pytest.raises(LimpetError) as caught:
            check()
        assert caught.value.exit_code == 5
        return str(caught.value)

    def test_the_board(self) -> None:
        links.same_board(MAC, MAC)
        assert "24:0a:c4:00:00:02" in self.broken(lambda: links.same_board(MAC, "24:0a:c4:00:00:02"))

    def test_the_certificate(self) -> None:
        key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n01")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now)
            .sign(other, hashes.SHA256())
        )
        links.own_certificate(certificate, key.public_key(), "n01")
        assert "another key" in self.broken(
            lambda: links.own_certificate(certificate, other.public_key(), "n01")
        )
        assert "is for ['n01']" in self.broken(
            lambda: links.own_certificate(certificate, key.public_key(), "n02")
        )

    def test_what_is_installed(self) -> None:
        links.installed("n01", FINGERPRINT, FINGERPRINT)
        assert "cdcdcdcdcdcdcdcd…" in self.broken(lambda: links.installed("n01", FINGERPRINT, "cd" * 32))
        assert "and has none" in self.broken(lambda: links.installed("n01", FINGERPRINT, None))

    def test_what_was_written(self) -> None:
        links.kept("settings", "a", "a")
        assert "do not read back" in self.broken(lambda: links.kept("settings", "a", "b"))

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (
                {"certificate": "cd" * 32},
                "not with its certificate abababababababab…: it says cdcdcdcdcdcdcdcd…",
            ),
            ({"certificate": None}, "it says none"),
            ({"node": "n02"}, "introduces itself as 'n02'"),
        ],
    )
    def test_another_first_publish(self, change: dict[str, Any], sentence: str) -> None:
        about = {"node": "n01", "certificate": FINGERPRINT, **change}
        assert sentence in self.broken(
            lambda: links.published(json.dumps(about).encode(), "n01", "n01", FINGERPRINT)
        )

    @pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b'"text"', b"{"])
    def test_a_first_publish_that_is_none(self, payload: bytes) -> None:
        assert "no JSON object" in self.broken(lambda: links.published(payload, "n01", "n01", FINGERPRINT))

    def test_the_first_publish(self) -> None:
        about = json.dumps({"node": "n01", "certificate": FINGERPRINT}).encode()
        assert links.published(about, "n01", "n01", FINGERPRINT)["node"] == "n01"
        assert "topic of 'n02'" in self.broken(lambda: links.published(about, "n02", "n01", FINGERPRINT))
