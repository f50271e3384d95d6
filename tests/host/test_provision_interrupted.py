"""Provisioning that is cut off, at each of its steps and within them: run again, it comes to the same end."""

import fcntl
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host_tools import boards, partitions
from host_tools.ca import folder as ca_folder
from host_tools.fleet import CLAIMED, IN_SERVICE, Fleet
from host_tools.pki import partition
from host_tools.provisioning import board as provisioning
from host_tools.provisioning import words
from host_tools.provisioning.outcome import Outcome
from host_tools.provisioning.steps import STEPS
from host_tools.repl import port as repl_port
from tests.host.provisioning import Site, ledger
from tests.host.virtual_rig import Rig

KIND = boards.load_board("virtual")
IDENTITY = partitions.find(KIND.partition_table(), "identity")

MOMENTS = (
    "detect",
    "guard",
    "guard: admitted",
    "flash: writing",
    "flash: verifying",
    "flash: writing the partition table",
    "flash: starting",
    "boot: stopped",
    "boot: noted",
    "key: made",
    "key: noted",
    "certificate: issued",
    "certificate: noted",
    "install: put",
    "install: committed",
    "install: installed",
    "install: noted",
    "settings: put",
    "settings: adopted",
    "settings: noted",
    "start: noted",
    "proof: seen",
    "proof: noted",
    "in service: in the ledger",
    "in service: recorded",
)
"""Where a run can be cut off, in the order in which it comes by. Between others nothing happens."""
OTHERS = {
    "flash",
    "flash: connecting",
    "flash: comparing",
    "boot",
    "key",
    "certificate",
    "install",
    "settings",
    "start",
    "proof",
    "in service",
}
ONE_A_STEP = (
    "detect",
    "guard: admitted",
    "flash: writing",
    "boot: stopped",
    "key: made",
    "certificate: issued",
    "install: put",
    "install: committed",
    "settings: put",
    "settings: adopted",
    "start: noted",
    "proof: seen",
    "in service: in the ledger",
)
SIDE_BY_SIDE = 3


class KilledError(BaseException):
    """Nothing of ours catches it."""


class Killer:
    """Ends each board's run at a moment of its own."""

    def __init__(self, plan: dict[str, str]) -> None:
        self.plan = plan
        self.seen: dict[str, list[str]] = {port: [] for port in plan}

    def __call__(self, port: str, moment: str) -> None:
        self.seen[port].append(moment)
        if self.plan[port] == moment:
            raise KilledError(moment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


def check_end(site: Site, rig: Rig, outcome: Outcome, *, issued: int = 1) -> None:
    """The board is this node, and there is nothing else: no second identity, no certificate left over."""
    assert outcome.error is None
    assert outcome.node_id is not None
    found = partition.decode(rig.flash.read_bytes()[IDENTITY.offset : IDENTITY.end])
    [live] = site.live(outcome.node_id)
    assert found.identity.node_id == outcome.node_id
    assert found.identity.chain == (live.der, *site.ca.chain)
    assert list(found.damage).count(partition.BLANK) == 1
    with Fleet(site.fleet_file) as fleet:
        [node] = [each for each in fleet.nodes() if each.mac == rig.mac]
    assert (node.node_id, node.state, node.fingerprint) == (outcome.node_id, IN_SERVICE, live.fingerprint)
    assert (node.image, node.settings) == (site.order().image.sha256, site.order().settings_digest)
    lines = ledger(site)
    assert [each["event"] for each in lines if each.get("name") == node.node_id].count("issue") == issued
    assert [each["event"] for each in lines if each.get("node") == node.node_id].count("in-service") == 1
    rig.says("uplink: connected")


@pytest.mark.security(6, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.1-1")
def test_killed_at_each_step(site: Site) -> None:
    """Runs that are ended within a step, and the next ones within later steps, until each step had its turn:
    in the end each board is one node with one certificate, as if nothing had been."""
    rigs = [site.board() for _ in range(SIDE_BY_SIDE)]
    order = site.order(ids="cut-{n}")
    seen: set[str] = set()
    assert [step for step in STEPS if not any(each.startswith(step) for each in ONE_A_STEP)] == []
    for start in range(0, len(ONE_A_STEP), SIDE_BY_SIDE):
        plan = dict(zip((rig.url for rig in rigs), ONE_A_STEP[start : start + SIDE_BY_SIDE], strict=False))
        killer = Killer(plan)
        with pytest.raises(KilledError):
            site.provision(*[rig for rig in rigs if rig.url in plan], order=order, moment=killer)
        for port, moment in plan.items():
            assert killer.seen[port][-1] == moment, f"{moment} did not come: {killer.seen[port]}"
            seen |= set(killer.seen[port])
    last = Killer({rig.url: "" for rig in rigs})
    outcomes = site.provision(*rigs, order=order, moment=last)
    seen = seen.union(*last.seen.values())
    assert seen - {"flash: erasing the partition table"} == {*MOMENTS, *OTHERS}
    assert {outcome.node_id for outcome in outcomes} == {f"cut-{n + 1}" for n in range(SIDE_BY_SIDE)}
    for rig, outcome in zip(rigs, outcomes, strict=True):
        check_end(site, rig, outcome)


@pytest.mark.soak
@pytest.mark.security(6, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.1-1")
@pytest.mark.parametrize("moment", [*MOMENTS, *sorted(OTHERS)])
def test_killed_at_one_moment(site: Site, moment: str) -> None:
    """A run that ends there, and one that is not disturbed: the board is one node with one certificate."""
    rig = site.board()
    order = site.order(ids="one-{n}")
    with pytest.raises(KilledError):
        site.provision(rig, order=order, moment=Killer({rig.url: moment}))
    [outcome] = site.provision(rig, order=order)
    check_end(site, rig, outcome)


AT_ONCE = ("flash: writing", "key: made", "install: committed", "proof: seen")
"""Moments of boards side by side at which one process is killed."""


@pytest.mark.security(6, "IEC 62443-4-2 CR 3.4", "ETSI EN 303 645 5.1-1")
def test_the_command_is_killed(site: Site) -> None:
    """`kill -9` of the real command while each of its boards is at another step; run again, all are nodes."""
    rigs = [site.board() for _ in AT_ONCE]
    plan = dict(zip((rig.url for rig in rigs), AT_ONCE, strict=True))
    words = site.words("--ids", "kill-{n}", "--json", *[word for rig in rigs for word in ("--port", rig.url)])
    with site.passphrase() as fd:
        program = [sys.executable, "-m", "tests.host.provision_killed", json.dumps(plan), *words]
        done = subprocess.run(
            [*program, "--passphrase-fd", str(fd)],
            pass_fds=[fd],
            capture_output=True,
            cwd=Path(__file__).parents[2],
            timeout=120,
            check=False,
        )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    with Fleet(site.fleet_file) as fleet:
        assert {fleet.node(f"kill-{n + 1}") is not None for n in range(len(rigs))} == {True}

    again = site.limpet(*words)
    assert again.code == 0, again.err
    boards_ = json.loads(again.out)["boards"]
    for rig, values in zip(rigs, boards_, strict=True):
        check_end(site, rig, Outcome(rig.url, rig.url, node_id=values["node"], error=values["error"]))


def at(moment: str, act: Callable[[], object]) -> Callable[[str, str], None]:
    """Something that happens at a moment, once."""
    done = threading.Event()

    def look(port: str, what: str) -> None:
        if what == moment and not done.is_set():
            done.set()
            act()

    return look


@pytest.mark.security(6, "IEC 62443-4-2 CR 3.4")
def test_a_board_that_is_unplugged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment: the run waits. For good: it says so, and the next one goes on."""
    monkeypatch.setattr(repl_port, "_COMES_BACK_S", 3.0)
    rigs = site.board(), site.board()
    order = site.order(ids="gone-{n}")

    pulled = {
        (rigs[0].url, "key"): at("key", lambda: rigs[0].inside(lambda: rigs[0].board.vanish(1.0))),
        (rigs[1].url, "install: put"): at(
            "install: put", lambda: rigs[1].inside(lambda: rigs[1].board.vanish(600.0))
        ),
    }

    def pull(port: str, moment: str) -> None:
        if (port, moment) in pulled:
            pulled[port, moment](port, moment)

    for_a_moment, for_good = site.provision(*rigs, order=order, moment=pull)
    check_end(site, rigs[0], for_a_moment)
    assert for_good.exit_code == 3
    assert for_good.state == CLAIMED
    assert for_good.error is not None
    assert "the port has gone" in for_good.error
    rigs[1].inside(lambda: rigs[1].board.vanish(0.0))
    [outcome] = site.provision(rigs[1], order=order)
    check_end(site, rigs[1], outcome)


@pytest.mark.security(6, "IEC 62443-4-2 CR 3.4")
def test_the_power_of_a_board_is_cut(site: Site) -> None:
    """While its identity is half there: the next run goes on."""
    rig = site.board()
    order = site.order(ids="dark-{n}")

    def cut() -> None:
        rig.power_off()
        rig.power_on()

    outcomes = site.provision(rig, order=order, moment=at("install: put", cut))
    if outcomes[0].error is not None:
        outcomes = site.provision(rig, order=order)
    check_end(site, rig, outcomes[0])


@pytest.mark.security(6, "IEC 62443-4-2 CR 3.4")
def test_a_broker_that_is_not_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node is prepared, and not in service; the next run needs nothing but the proof."""
    monkeypatch.setattr(provisioning, "_BROKER_S", 0.5)
    rig = site.board()
    order = site.order(node_id="lonely")
    site.broker.stop()
    [outcome] = site.provision(rig, order=order)
    assert (outcome.exit_code, outcome.state) == (5, CLAIMED)
    assert outcome.error is not None
    assert outcome.error.startswith(
        f"{rig.url}: 'lonely' has all that it needs, and is not in service, for nobody saw it come (Cannot "
    )
    with Fleet(site.fleet_file) as fleet:
        node = fleet.node("lonely")
    assert node is not None
    assert (node.state, node.first_publish) == (CLAIMED, "")
    monkeypatch.undo()
    site.broker = site.start_broker(site.broker.port)
    killer = Killer({rig.url: ""})
    [outcome] = site.provision(rig, order=order, moment=killer)
    check_end(site, rig, outcome)
    steps = {each.partition(":")[0] for each in killer.seen[rig.url]}
    assert steps == {"detect", "guard", "flash", "proof", "in service"}
    assert "flash: writing" not in killer.seen[rig.url]


@pytest.mark.security(6, "IEC 62443-4-2 CR 3.4")
def test_an_authority_that_is_busy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program holds the authority's lock: the board waits for the next run with its key."""
    monkeypatch.setattr(ca_folder, "_PATIENCE_S", 0.3)
    rig = site.board()
    order = site.order(ids="busy-{n}")
    with (site.ca_folder / "ledger.jsonl").open("rb") as held:
        hold = at("certificate", lambda: fcntl.flock(held, fcntl.LOCK_EX))
        [outcome] = site.provision(rig, order=order, moment=hold)
    assert (outcome.exit_code, outcome.state) == (1, CLAIMED)
    assert outcome.error is not None
    assert "Another limpet has been writing in" in outcome.error
    [outcome] = site.provision(rig, order=order)
    check_end(site, rig, outcome)


@pytest.mark.security(6, "IEC 62443-4-2 CR 3.4")
def test_a_key_that_was_lost(site: Site) -> None:
    """Its certificate was issued and never installed: it is revoked, and that is said."""
    rig = site.board()
    order = site.order(ids="lost-{n}")
    with pytest.raises(KilledError):
        site.provision(rig, order=order, moment=Killer({rig.url: "certificate: issued"}))
    [lost] = site.live("lost-1")
    rig.power_off()
    rig.flash.write_bytes(b"\xff" * KIND.flash_size)
    rig.power_on()
    [outcome] = site.provision(rig, order=order)
    check_end(site, rig, outcome, issued=2)
    assert int(lost.serial, 16) in site.revoked()
    said = f"{rig.url}: an earlier certificate of 'lost-1', {lost.fingerprint[:16]}…, is revoked."
    assert outcome.remarks == [said]


def test_a_node_that_does_not_come(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Wi-Fi is not there: what it says is told, it is not in service, and the next run begins anew.

    What the broker has kept from an earlier run is no proof.
    """
    rig = site.board()
    with pytest.raises(KilledError):
        site.provision(rig, order=site.order(ids="far-{n}"), moment=Killer({rig.url: "proof: seen"}))
    monkeypatch.setattr(provisioning, "PROOF_S", 8.0)
    monkeypatch.setattr(words, "_PATIENCE_S", 0.2)
    networks = rig.world.access_points[:]
    rig.world.access_points.clear()
    [outcome] = site.provision(rig, order=site.order(ids="far-{n}"))
    assert (outcome.exit_code, outcome.state) == (5, CLAIMED)
    assert outcome.error is not None
    assert outcome.error.startswith(f"{rig.url}: 'far-1' did not come to the broker within 8 s; it says '")
    monkeypatch.undo()
    rig.world.access_points.extend(networks)
    killer = Killer({rig.url: ""})
    [outcome] = site.provision(rig, order=site.order(ids="far-{n}"), moment=killer)
    check_end(site, rig, outcome)
    assert "settings: adopted" in killer.seen[rig.url]
