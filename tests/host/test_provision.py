"""Virtual boards become nodes at a real broker: the chain, the guards, and what is left of it."""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host_tools import boards, partitions
from host_tools.ca.operator import operator
from host_tools.errors import REFUSED
from host_tools.fleet import CLAIMED, IN_SERVICE, Fleet
from host_tools.pki import partition
from host_tools.provisioning.factory import Made, make_images
from host_tools.provisioning.outcome import ALREADY, Outcome
from host_tools.provisioning.proof import Witness
from host_tools.provisioning.steps import STEPS
from tests.host.provisioning import Site, ledger
from tests.host.stand import DEADLINE
from tests.host.virtual_rig import Rig

IDENTITY = partitions.find(boards.load_board("virtual").partition_table(), "identity")
SPOOL = partitions.find(boards.load_board("virtual").partition_table(), "spool")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def first(site: Site) -> tuple[Rig, Outcome]:
    """A board that was blank, and is a node."""
    rig = site.board()
    [outcome] = site.provision(rig)
    return rig, outcome


def identity_on(rig: Rig) -> partition.Decoded:
    return partition.decode(rig.flash.read_bytes()[IDENTITY.offset : IDENTITY.end])


def test_from_blank_to_proof(site: Site, first: tuple[Rig, Outcome]) -> None:
    """The chain, link by link, in one record."""
    rig, outcome = first
    assert (outcome.error, outcome.state, outcome.node_id) == (None, IN_SERVICE, "line-1")
    found = identity_on(rig)
    [issued] = site.ca.live("line-1")
    assert found.identity.chain == (issued.der, *site.ca.chain)
    assert found.identity.cas == site.ca.trusted
    assert sorted(filter(None, found.damage)) == [partition.BLANK]
    rig.says("uplink: connected")
    with Fleet(site.fleet_file) as fleet:
        node = fleet.node("line-1")
        steps = [entry.step for entry in fleet.journal(rig.mac)]
    assert node is not None
    assert (node.mac, node.location, node.board, node.state) == (rig.mac, rig.url, "virtual", IN_SERVICE)
    assert node.image == site.order().image.sha256
    assert node.settings == site.order().settings_digest
    assert (node.serial, node.fingerprint, node.client_id) == (issued.serial, issued.fingerprint, "line-1")
    assert node.first_publish
    assert [step for step in steps if step in STEPS] == list(STEPS)
    events = [(line["event"], line.get("node") or line.get("name")) for line in ledger(site)]
    assert events.count(("issue", "line-1")) == events.count(("in-service", "line-1")) == 1


def test_the_settings_are_there_and_no_secret_in_the_outcome(first: tuple[Rig, Outcome], site: Site) -> None:
    rig, outcome = first
    key = identity_on(rig).identity.key
    assert site.order().settings in rig.flash.read_bytes()
    said = json.dumps(outcome.values()) + rig.log + site.fleet_file.read_bytes().decode("latin-1")
    for secret in (key.hex(), key[7:39].hex(), key.decode("latin-1"), key[7:39].decode("latin-1")):
        assert secret not in said
    for path in site.folder.rglob("*"):
        if path.is_file() and path != rig.flash:
            assert key[7:39] not in path.read_bytes(), path


def test_what_the_broker_has_kept_is_no_proof(site: Site, first: tuple[Rig, Outcome]) -> None:
    """Only an `about` that is said in this moment counts."""
    rig, _ = first
    order = site.order()
    with operator(site.ca) as files:
        witness = Witness(order.places, order.prefix, lambda: files)
        with witness.expecting("line-1") as heard, witness:
            assert witness.is_there(DEADLINE)
            rig.power_off()
            rig.power_on()
            assert heard.get(timeout=DEADLINE).retained is False


def test_a_board_that_is_in_service_is_recognised(site: Site, first: tuple[Rig, Outcome]) -> None:
    rig, outcome = first
    before = rig.flash.read_bytes()[IDENTITY.offset : IDENTITY.end]
    with Fleet(site.fleet_file) as fleet:
        journal = fleet.journal(rig.mac)
    [again] = site.provision(rig)
    assert (again.error, again.state, again.node_id) == (None, ALREADY, "line-1")
    assert again.fingerprint == outcome.fingerprint
    assert rig.flash.read_bytes()[IDENTITY.offset : IDENTITY.end] == before
    assert len(site.ca.live("line-1")) == 1
    with Fleet(site.fleet_file) as fleet:
        assert fleet.journal(rig.mac) == journal  # nothing was flashed


def test_a_board_in_service_is_not_made_another_node(site: Site, first: tuple[Rig, Outcome]) -> None:
    rig, _ = first
    before = rig.flash.read_bytes()[: SPOOL.offset]
    [refused] = site.provision(rig, order=site.order(node_id="other"))
    assert refused.exit_code == 4
    assert refused.error is not None
    assert refused.error.startswith(
        f"{rig.url}: the board {rig.mac} is the node 'line-1', in service since 20"
    )
    assert rig.flash.read_bytes()[: SPOOL.offset] == before


def test_a_record_that_was_lost_makes_no_second_node_of_a_board(
    site: Site, first: tuple[Rig, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, _ = first
    monkeypatch.setattr(site, "fleet_file", tmp_path / "another.db")
    [outcome] = site.provision(rig, order=site.order("other-{n}"))
    assert outcome.error == (
        f"{rig.url}: by the authority's ledger it is 'line-1' ({rig.mac}), in service, and this fleet record "
        "does not know it: name the right --fleet, or provision it by --replace line-1."
    )
    assert outcome.exit_code == REFUSED and not site.ca.live("other-1")


def test_two_boards_and_one_that_is_none(site: Site) -> None:
    """Side by side; a port without a board does not stop the others."""
    one, two = site.board(), site.board()
    gone = site.board()
    gone.inside(lambda: gone.board.vanish(600))
    outcomes = site.provision(one, gone, two, order=site.order(ids="pair-{n}"))
    assert [each.exit_code for each in outcomes] == [0, 3, 0]
    assert {outcomes[0].node_id, outcomes[2].node_id} == {"pair-1", "pair-2"}
    assert outcomes[0].fingerprint != outcomes[2].fingerprint
    assert outcomes[1].node_id is None
    keys = {identity_on(rig).identity.key for rig in (one, two)}
    assert len(keys) == 2


def test_a_broken_board_is_replaced(site: Site) -> None:
    """Its id goes to another board, its certificate is revoked, its own MAC address is free again."""
    broken, spare = site.board(), site.board()
    [before] = site.provision(broken, order=site.order(node_id="pump"))
    assert before.error is None
    broken.power_off()
    [refused] = site.provision(spare, order=site.order(node_id="pump"))
    assert (refused.exit_code, refused.state) == (4, None)
    assert f"'pump' is the board {broken.mac}" in (refused.error or "")
    [after] = site.provision(spare, order=site.order(replace="pump"))
    assert (after.error, after.state, after.node_id) == (None, IN_SERVICE, "pump")
    assert after.remarks == [
        f"{spare.url}: an earlier certificate of 'pump', {(before.fingerprint or '')[:16]}…, is revoked."
    ]
    assert [each.fingerprint for each in site.ca.live("pump")] == [after.fingerprint]
    assert int(before.serial or "", 16) in site.revoked()
    with Fleet(site.fleet_file) as fleet:
        assert fleet.node_of(broken.mac) is None
        node = fleet.node("pump")
        assert node is not None
        assert (node.mac, node.fingerprint) == (spare.mac, after.fingerprint)


def test_nothing_to_replace(site: Site) -> None:
    rig = site.board()
    [refused] = site.provision(rig, order=site.order(replace="nobody"))
    assert refused.exit_code == 4
    assert refused.error == (
        f"{rig.url}: there is no node 'nobody' that could be replaced: `limpet fleet list` shows those that "
        "there are; a new one is named by --id."
    )
    assert set(rig.flash.read_bytes()) == {0xFF}


def test_an_id_for_which_there_is_a_certificate(site: Site) -> None:
    """The fleet record is another one, or lost: the certificate is not revoked unasked."""
    identity = site.ca.issue_node_key("kiln")
    rig = site.board()
    [refused] = site.provision(rig, order=site.order(node_id="kiln"))
    assert refused.exit_code == 4
    assert refused.error is not None
    assert "has issued a certificate for 'kiln'" in refused.error
    assert [each.der for each in site.ca.live("kiln")] == [identity.chain[0]]


def test_a_key_made_on_the_host(site: Site) -> None:
    rig = site.board()
    [outcome] = site.provision(rig, order=site.order(node_id="hosted", key="host"))
    assert (outcome.error, outcome.state) == (None, IN_SERVICE)
    found = identity_on(rig).identity
    assert found.chain[0] == site.ca.live("hosted")[0].der
    for path in site.folder.rglob("*"):
        if path.is_file() and path != rig.flash:
            assert found.key[7:39] not in path.read_bytes(), path


def test_factory_images(site: Site, tmp_path: Path) -> None:
    """Each has an identity of its own; a board that gets one is a node, and is recorded when it is there."""
    order = site.order(ids="fab-{n:02}", key="host")
    made: list[Made] = []
    with Fleet(site.fleet_file) as fleet:
        make_images(order, site.ca, fleet, tmp_path / "images", 2, made.append)
        states = [fleet.node(each.node_id) for each in made]
    assert [each.node_id for each in made] == ["fab-01", "fab-02"]
    assert [node.state for node in states if node] == [CLAIMED, CLAIMED]
    flashes = [each.path.read_bytes() for each in made]
    keys = set()
    for each, flash in zip(made, flashes, strict=True):
        assert stat.S_IMODE(each.path.stat().st_mode) == 0o600
        found = partition.decode(flash[IDENTITY.offset : IDENTITY.end]).identity
        assert found.node_id == each.node_id
        assert site.ca.live(each.node_id)[0].der == found.chain[0]
        keys.add(found.key)
        assert order.settings in flash
        assert [line["node"] for line in ledger(site) if line["event"] == "factory-image"].count(each.node_id)
    assert len(keys) == 2

    rig = site.board(flash=flashes[0])
    rig.says("uplink: connected")
    [outcome] = site.provision(rig, order=site.order(node_id="fab-01"))
    assert (outcome.error, outcome.state) == (None, IN_SERVICE)
    assert outcome.fingerprint == made[0].fingerprint
    assert identity_on(rig).identity.key in keys


def test_images_that_were_cut_off(site: Site, tmp_path: Path) -> None:
    """Whatever was begun is finished first: no certificate without its image, no id twice."""
    order = site.order(ids="cut-{n}", key="host")
    made: list[Made] = []

    class KilledError(Exception):
        pass

    def kill_at(moment: str) -> Callable[[str], None]:
        def look(what: str) -> None:
            if what == moment:
                raise KilledError

        return look

    with Fleet(site.fleet_file) as fleet:
        for moment in ("claimed", "issued", "written", "in the ledger"):
            with pytest.raises(KilledError):
                make_images(order, site.ca, fleet, tmp_path, 1, made.append, kill_at(moment))
        assert made == []
        make_images(order, site.ca, fleet, tmp_path, 1, made.append)
        [one] = made
        make_images(order, site.ca, fleet, tmp_path, 1, made.append)
    assert [each.node_id for each in made] == ["cut-1", "cut-2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut-1.bin", "cut-2.bin"]
    assert [each.fingerprint for each in site.ca.live("cut-1")] == [one.fingerprint]
    issued = [line for line in ledger(site) if line["event"] == "issue" and line["name"] == "cut-1"]
    assert len(issued) == 2  # the one whose key was lost before its image was written is revoked
    assert int(issued[0]["serial"], 16) in site.revoked()


def test_a_production_node_is_proved_as_well(site: Site) -> None:
    """Its console is closed as soon as the settings are there: they come last."""
    rig = site.board()
    order = site.order(node_id="sealed", production=True)
    assert b'"profile":"production"' in order.settings
    [outcome] = site.provision(rig, order=order)
    assert (outcome.error, outcome.state) == (None, IN_SERVICE)
