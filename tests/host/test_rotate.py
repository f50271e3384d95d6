"""Rotation of nodes that are played on this host, with real TLS and a broker: many, and what goes wrong."""

import base64
import contextlib
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from host_tools.errors import FAILED, NO_DEVICE, RefusedError, UsageError
from host_tools.fleet import Entry, Fleet, FleetError, Node
from host_tools.pki.partition import certificate_fields
from host_tools.rotation import journal, pieces, run
from host_tools.rotation.choice import choose
from host_tools.rotation.node import Rotation, UndecidedError, WentBackError
from host_tools.rotation.told import Lines
from host_tools.rotation.verdict import End, Sight, judge
from host_tools.telemetry.operator import Operator
from tests.host.provisioning import Site
from tests.host.serving import PlayedNode, operating, recorded, wait_for

QUIET = Lines(lambda text: None)
NOW = datetime(2026, 12, 1, tzinfo=UTC)
_macs = (f"24:0a:c4:01:00:{number:02x}" for number in itertools.count())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module")
def fleet(site: Site) -> Iterator[Fleet]:
    with Fleet(site.fleet_file) as made:
        yield made


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_tools.rotation.node._PAUSE_S", 0.05)


@contextlib.contextmanager
def serving(site: Site, fleet: Fleet, *nodes: PlayedNode) -> Iterator[None]:
    """These nodes in service, and connected or about to be."""
    with contextlib.ExitStack() as stack:
        for node in nodes:
            recorded(fleet, site.ca, node.node_id, next(_macs))
            stack.enter_context(node)
        yield


@contextlib.contextmanager
def hearing(site: Site, *nodes: PlayedNode) -> Iterator[Operator]:
    """An operator who has heard of these nodes."""
    with operating(site) as operator:
        for node in nodes:
            wait_for(operator, node.node_id)
        yield operator


@contextlib.contextmanager
def playing(site: Site, fleet: Fleet, *nodes: PlayedNode) -> Iterator[Operator]:
    """These nodes in service and connected, and an operator who has heard of them."""
    with serving(site, fleet, *nodes), hearing(site, *nodes) as operator:
        yield operator


def rotate(site: Site, fleet: Fleet, operator: Operator, *ids: str, **order: Any) -> list[run.Outcome]:
    nodes = [fleet.known(each) for each in ids]
    return run.rotate(nodes, run.Order(**{"patience": 60.0, **order}), operator, site.ca, fleet, QUIET)


def rotation(site: Site, fleet: Fleet, operator: Operator, node_id: str, patience: float = 60.0) -> Rotation:
    return Rotation(fleet.known(node_id), operator, site.ca, fleet, patience, lambda step: None)


def consistent(site: Site, fleet: Fleet, node: PlayedNode) -> None:
    """One certificate alone is live: the one that the node has, and that the record has."""
    assert [each.fingerprint for each in site.ca.live(node.node_id)] == [node.fingerprint]
    assert fleet.known(node.node_id).fingerprint == node.fingerprint


def test_one_that_fails_does_not_stop_the_others(site: Site, fleet: Fleet) -> None:
    def no_key(node: PlayedNode, command: bytes) -> dict[str, Any] | None:
        return {"error": "no \x1b[2J room"} if command == b"key" else node.asked(command)

    def another_name(node: PlayedNode, command: bytes) -> dict[str, Any] | None:
        answer = node.asked(command)
        if command == b"key" and node.pending:
            return {"csr": base64.b64encode(node.request(node.pending, "m01")).decode()}
        return answer

    def junk(node: PlayedNode, command: bytes) -> dict[str, Any] | None:
        return {"csr": "not base64!"} if command == b"key" else node.asked(command)

    def forgetful(node: PlayedNode, command: bytes) -> dict[str, Any] | None:
        return {"at": 3} if command.startswith(b"put 0") else node.asked(command)

    well = [PlayedNode(site, f"m{number:02}") for number in range(1, 7)]
    ill = {
        PlayedNode(site, "i01", on=no_key): "i01 refuses the command 'key': it does not say why.",
        PlayedNode(
            site, "i02", on=another_name
        ): "The certificate request is for 'm01', and not for the node 'i02'",
        PlayedNode(site, "i03", on=junk): "i03 has sent no certificate request: try again.",
        PlayedNode(site, "i04", on=forgetful): "i04 did not keep what it was given: try again.",
    }
    asleep = PlayedNode(site, "z01")
    recorded(fleet, site.ca, "z01", next(_macs))
    before = {node: node.fingerprint for node in (*well, *ill, asleep)}
    with playing(site, fleet, *well, *ill) as operator:
        ids = [node.node_id for node in (*ill, asleep, *well)]
        outcomes = {each.node_id: each for each in rotate(site, fleet, operator, *ids, side_by_side=4)}
    assert list(outcomes) == ids
    for node in well:
        outcome = outcomes[node.node_id]
        assert (outcome.error, outcome.fingerprint, outcome.before) == (None, node.fingerprint, before[node])
        assert node.fingerprint != before[node]
        consistent(site, fleet, node)
    for node, sentence in ill.items():
        outcome = outcomes[node.node_id]
        assert outcome.error and outcome.error.startswith(sentence) and not outcome.skipped
        assert node.fingerprint == before[node]
        consistent(site, fleet, node)
        assert fleet.journal_of(node.node_id)[-1].step == journal.FAILED
    assert outcomes["z01"].skipped and outcomes["z01"].exit_code == NO_DEVICE
    assert outcomes["z01"].error == "z01 is not connected: rotate it when it is awake."
    assert not asleep.commands
    consistent(site, fleet, asleep)
    assert run.exit_code(list(outcomes.values())) == FAILED
    assert run.exit_code([outcomes["z01"], outcomes["m01"]]) == NO_DEVICE


def test_a_node_that_goes_back_keeps_what_it_had(site: Site, fleet: Fleet) -> None:
    node = PlayedNode(site, "b01", refused=True)
    before = node.fingerprint
    said = r"b01 went back to what it had: the new certificate is given up"
    with playing(site, fleet, node) as operator, pytest.raises(WentBackError, match=said):
        rotation(site, fleet, operator, "b01").renew()
    assert node.fingerprint == before
    consistent(site, fleet, node)
    failed = fleet.journal_of("b01")[-1]
    issued = next(each for each in fleet.journal_of("b01") if each.step == journal.CERTIFICATE)
    assert (failed.step, failed.facts["revoked"]) == (journal.FAILED, issued.facts["serial"])


def test_a_node_that_falls_silent_may_be_on_either(site: Site, fleet: Fleet) -> None:
    mute = True

    def silent_after_use(node: PlayedNode, command: bytes) -> dict[str, Any] | None:
        answer = node.asked(command)
        return None if mute and any(each.startswith(b"use") for each in node.commands) else answer

    node = PlayedNode(site, "s01", on=silent_after_use)
    with playing(site, fleet, node) as operator:
        with pytest.raises(
            UndecidedError, match="has not settled on it within 3 s: that and the old one stay"
        ):
            rotation(site, fleet, operator, "s01", patience=3.0).renew()
        assert len(site.ca.live("s01")) == 2
        mute = False
        node.commands.clear()
        rotation(site, fleet, operator, "s01").renew()
        assert b"key" not in node.commands  # it only had to be finished
    consistent(site, fleet, node)


def test_nothing_is_revoked_as_long_as_the_new_one_is_on_trial(site: Site, fleet: Fleet) -> None:
    seen: list[int] = []

    def long_trial(node: PlayedNode, command: bytes) -> dict[str, Any] | None:
        answer = node.asked(command)
        if answer and command == b"identity" and node.fingerprint != before and len(seen) < 3:
            seen.append(len(site.ca.live("t01")))
            answer["trial"] = True
        return answer

    node = PlayedNode(site, "t01", on=long_trial)
    before = node.fingerprint
    with playing(site, fleet, node) as operator:
        rotation(site, fleet, operator, "t01").renew()
    assert seen == [2, 2, 2]
    consistent(site, fleet, node)


def test_a_node_that_says_nothing_at_all(site: Site, fleet: Fleet) -> None:
    node = PlayedNode(site, "s02", on=lambda node, command: None)
    with playing(site, fleet, node) as operator:
        [outcome] = rotate(site, fleet, operator, "s02", patience=1.0)
    assert (outcome.error, outcome.exit_code) == (
        "s02 does not answer the command 'identity' within 1 s.",
        NO_DEVICE,
    )
    consistent(site, fleet, node)


def test_a_node_of_another_authority_is_left_alone(site: Site, fleet: Fleet) -> None:
    def stranger(node: PlayedNode, command: bytes) -> dict[str, Any] | None:
        return {"fingerprint": "ee" * 32, "trial": False, "pending": False}

    node = PlayedNode(site, "s03", on=stranger)
    with (
        playing(site, fleet, node) as operator,
        pytest.raises(RefusedError, match=r"has not issued, or has revoked"),
    ):
        rotation(site, fleet, operator, "s03").renew()
    assert node.commands == [b"identity"]
    consistent(site, fleet, node)


class Killed(BaseException):
    """As kill -9: nobody below may catch it."""


class Life:
    """Ends at the so-manieth act, before or after it."""

    def __init__(self, acts: int) -> None:
        self.left = acts

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class Mortal:
    """Does what `it` does, and may die before or after each act that changes something anywhere."""

    def __init__(self, it: Any, life: Life) -> None:
        self._it, self._life = it, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._it, name)
        if name not in ("note", "rotated", "issue_node", "keep_only", "ask"):
            return found

        def act(*words: Any, **more: Any) -> Any:
            is_look = name == "ask" and words[1].split()[0] in (b"identity", b"put")
            if not is_look:
                self._life.tick()
            done = found(*words, **more)
            if not is_look:
                self._life.tick()
            return done

        return act


def test_killed_at_any_step_and_run_again(site: Site, fleet: Fleet) -> None:
    node = PlayedNode(site, "k01")
    kills = 0
    with playing(site, fleet, node) as operator:
        for acts in itertools.count(1):
            before, issued = node.fingerprint, len(site.ca.state.issued)
            life = Life(acts)
            mortals: list[Any] = [Mortal(each, life) for each in (operator, site.ca, fleet)]
            theirs, ca, record = mortals
            try:
                Rotation(fleet.known("k01"), theirs, ca, record, 60.0, lambda step: None).renew()
                break
            except Killed:
                kills += 1
            assert {before, node.fingerprint} >= {fleet.known("k01").fingerprint}
            rotation(site, fleet, operator, "k01").renew()
            consistent(site, fleet, node)
            assert node.fingerprint != before
            # The same key gets the same certificate; one more is where all but its last line was done.
            assert len(site.ca.state.issued) - issued <= 2
    assert kills >= 16
    consistent(site, fleet, node)


def test_what_the_host_lost_of_a_pending_key_is_revoked(site: Site, fleet: Fleet) -> None:
    node = PlayedNode(site, "k02")
    with playing(site, fleet, node) as operator:
        node.asked(b"key")
        assert node.pending
        lost = site.ca.issue_node(node.request(node.pending), "k02", overlap=True)
        node.pending = None  # its flash was erased meanwhile
        rotation(site, fleet, operator, "k02").renew()
    assert lost.serial in site.ca.state.revoked
    consistent(site, fleet, node)


def test_ctrl_c_ends_soon_and_can_go_on(site: Site, fleet: Fleet) -> None:
    nodes = [PlayedNode(site, f"c{number:02}") for number in range(4)]

    class Impatient:
        def step(self, node_id: str, name: str) -> None:
            if name == "install" and node_id == "c03":
                raise KeyboardInterrupt

    with serving(site, fleet, *nodes):
        chosen = [fleet.known(node.node_id) for node in nodes]
        with hearing(site, *nodes) as operator, pytest.raises(KeyboardInterrupt):
            run.rotate(chosen, run.Order(patience=60.0), operator, site.ca, fleet, Impatient())
        with hearing(site, *nodes) as operator:
            assert {
                each.error for each in rotate(site, fleet, operator, *(node.node_id for node in nodes))
            } == {None}
    for node in nodes:
        consistent(site, fleet, node)


def node_of(node_id: str, expires: str = "2029-01-01T00:00:00+00:00", state: str = "in service") -> Node:
    return Node(node_id, "24:0a:c4:00:00:01", state, "2026-01-01T00:00:00+00:00", expires=expires)


def test_which_nodes() -> None:
    soon, late = node_of("n01", "2026-12-20T00:00:00+00:00"), node_of("n02")
    gone, new = node_of("n03", state="retired"), node_of("n04", "", "claimed")
    all_ = [soon, late, gone, new]
    assert choose(all_, [], True, None, NOW) == [soon, late]
    assert choose(all_, [], False, timedelta(days=60), NOW) == [soon]
    assert choose(all_, ["n02", "n01", "n02"], False, None, NOW) == [late, soon]
    for ids, every, expiring in (([], False, None), (["n01"], True, None), ([], True, timedelta(1))):
        with pytest.raises(UsageError, match="one of the three"):
            choose(all_, ids, every, expiring, NOW)
    with pytest.raises(FleetError, match="has no node 'n09'"):
        choose(all_, ["n01", "n09"], False, None, NOW)
    with pytest.raises(RefusedError, match="'n03' is not in service: it is retired"):
        choose(all_, ["n03"], False, None, NOW)


@pytest.mark.parametrize("room", [20, 100, 231])
def test_pieces_are_small_and_whole(room: int) -> None:
    data = certificate_fields([b"a" * 430, b"b" * 500], [b"c" * 480])
    whole = bytearray()
    for command, at in pieces.put(data, room):
        name, offset, piece = command.split(b" ", 2)
        assert (name, int(offset), len(command) <= room) == (b"put", len(whole), True)
        whole += piece
        assert at == len(whole)
    assert whole == data
    assert data[:3] == b"\x03\xae\x01" and data[-483:-480] == b"\x04\xe0\x01"
    assert pieces.use(data) == b"use %d %08x" % (len(data), zlib.crc32(data))


SEEN = Sight("new", False, "new", came_anew=True, event="", taken=True, refusal="")
WORKS = "the new certificate works; the old one is erased"
GIVEN_UP = "the new certificate is given up (refused 5); the old one stays"


@pytest.mark.parametrize(
    ("new", "changes", "end"),
    [
        ("new", {}, End.KEPT),
        ("new", {"taken": False}, End.KEPT),  # the answer was lost
        ("new", {"on_trial": True}, End.OPEN),
        ("new", {"came_anew": False}, End.OPEN),
        ("new", {"certificate": "old"}, End.OPEN),
        ("new", {"fingerprint": "old"}, End.BACK),
        ("new", {"fingerprint": "old", "on_trial": True}, End.OPEN),
        ("new", {"fingerprint": "other"}, End.OPEN),
        ("old", {"event": WORKS}, End.KEPT),
        ("old", {"event": WORKS, "came_anew": False}, End.OPEN),
        ("old", {"event": WORKS, "on_trial": True}, End.OPEN),
        ("old", {"event": GIVEN_UP}, End.BACK),
        ("old", {}, End.OPEN),
        ("old", {"came_anew": False}, End.KEPT),  # nothing has changed
        ("old", {"came_anew": False, "taken": False}, End.OPEN),
        ("old", {"taken": False, "refusal": "no key waits"}, End.BACK),
    ],
)
def test_how_a_trial_ended(new: str, changes: dict[str, Any], end: End) -> None:
    base = SEEN if new == "new" else replace(SEEN, fingerprint="old", certificate="old")
    assert judge("old", new, replace(base, **changes)) is end


def test_a_rotation_that_is_unfinished() -> None:
    def steps(*names: str) -> list[Entry]:
        return [Entry("", "", "n01", name) for name in names]

    assert not journal.is_unfinished(steps("claimed", "in service"))
    assert journal.is_unfinished(steps("in service", journal.BEGUN, journal.CERTIFICATE))
    for end in (journal.FAILED, journal.DONE, "in service", "retired"):
        assert not journal.is_unfinished(steps(journal.BEGUN, end, "key"))
    assert journal.is_unfinished(steps(journal.BEGUN, journal.FAILED, journal.BEGUN))
