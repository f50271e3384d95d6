"""`limpet rotate` and `limpet fleet refresh` from the shell: a virtual board as a node at a real broker."""

import base64
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from host_tools import boards, partitions
from host_tools.ca import CertificateAuthority, public
from host_tools.errors import LimpetError
from host_tools.fleet import Fleet, Node
from host_tools.pki import partition
from host_tools.pki.credential import pem
from host_tools.pki.profiles import utc_now
from host_tools.rotation import pieces
from host_tools.telemetry.operator import NodeRefusedError, Operator
from host_tools.telemetry.reach import Place, places
from tests.host.authorities import cheap_passphrases, request
from tests.host.provisioning import Site, unlock
from tests.host.serving import PlayedNode, operating, real_node, recorded, wait_for
from tests.host.shell import LIMPET, Done, environment
from tests.host.stand import wait_until
from tests.host.virtual_rig import Rig

IDENTITY = partitions.find(boards.load_board("virtual").partition_table(), "identity")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(scope="module")
def rig(site: Site) -> Rig:
    """The node n01, at the broker."""
    with Fleet(site.fleet_file) as fleet:
        rig = real_node(site, fleet, "n01")
    rig.says("uplink: connected")
    return rig


def words(site: Site, *more: str | Path) -> list[str]:
    where = ("--fleet", site.fleet_file, "--node", site.node_file, "--ca", site.ca_folder)
    return [str(word) for word in (*more, *where)]


def run(site: Site, *more: str) -> Done:
    done = site.limpet(*words(site, *more))
    assert "Traceback" not in done.err, done.err
    return done


def record(site: Site, node_id: str = "n01") -> Node:
    with Fleet(site.fleet_file) as fleet:
        return fleet.known(node_id)


def on_flash(rig: Rig) -> partition.Decoded:
    return partition.decode(rig.flash.read_bytes()[IDENTITY.offset : IDENTITY.end])


def consistent(site: Site, rig: Rig) -> None:
    """One identity on the node, one live certificate, and the record knows it."""
    found = on_flash(rig)
    assert sorted(filter(None, found.damage)) == [partition.BLANK]
    state = public(site.ca_folder).state
    [issued] = state.live("n01", utc_now())
    assert found.identity.chain == (issued.der, state.issued[state.issuing].der)
    assert found.identity.cas == tuple(state.issued[serial].der for serial in state.roots)
    assert record(site).fingerprint == issued.fingerprint


def test_a_new_key_and_certificate(site: Site, rig: Rig) -> None:
    before, boots, old = on_flash(rig).identity, rig.board.boots, record(site)
    done = run(site, "rotate", "n01")
    assert done.code == 0, done.err
    assert done.out == (
        f"n01: has a new key; certificate {record(site).fingerprint[:16]}…, "
        f"until {record(site).expires[:10]}\n"
    )
    steps = ["identity", "key", "certificate", "install", "proof", "revoke"]
    assert done.err.splitlines() == [f"n01: {step}" for step in steps]
    consistent(site, rig)
    assert on_flash(rig).identity.key != before.key
    assert rig.board.boots == boots  # it worked on
    assert int(old.serial, 16) in site.revoked()
    assert record(site).fingerprint != old.fingerprint
    rig.says("identity: the new certificate works; the old one is erased")


def test_killed_and_run_again(site: Site, rig: Rig) -> None:
    with site.passphrase() as fd:
        killed = subprocess.Popen(
            [LIMPET, *words(site, "rotate", "--all"), "--passphrase-fd", str(fd)],
            pass_fds=[fd],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        assert killed.stderr
        for line in killed.stderr:
            if line == "n01: install\n":
                killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(public(site.ca_folder).state.live("n01", utc_now())) == 2
    done = run(site, "rotate", "--all", "--json")
    assert done.code == 0, done.err
    [told] = json.loads(done.out)["nodes"]
    assert (told["node_id"], told["error"], told["fingerprint"]) == ("n01", None, record(site).fingerprint)
    consistent(site, rig)


def test_those_that_expire(site: Site, rig: Rig) -> None:
    none = run(site, "rotate", "--expiring", "60d")
    assert (none.code, none.err) == (0, "No node is to be rotated.\n")
    done = run(site, "rotate", "--expiring", "200w")
    assert (done.code, done.out[:18]) == (0, "n01: has a new key")
    consistent(site, rig)


def test_refresh_tells_who_is_there(site: Site, rig: Rig) -> None:
    with Fleet(site.fleet_file) as fleet, PlayedNode(site, "x99"), PlayedNode(site, "n03") as other:
        site.ca.issue_node(other.request(other.key), "n03")
        asleep = PlayedNode(site, "n02")
        recorded(fleet, site.ca, "n02", "24:0a:c4:02:00:02")
        recorded(fleet, site.ca, "n03", "24:0a:c4:02:00:03")
        fleet.rotated("n03", "77", "77" * 32, record(site).expires)
        with operating(site) as operator:
            for node_id in ("x99", "n03", "n01"):
                wait_for(operator, node_id)
        done = run(site, "fleet", "refresh")
        seen = {node.node_id: node.last_seen for node in fleet.nodes()}
        told = json.loads(run(site, "fleet", "refresh", "--json").out)
        for node_id in ("n02", "n03", "x99"):
            site.ca.revoke(node_id, "key-compromise")
        for node_id in ("n02", "n03"):
            fleet.retire(node_id, "lost")
    assert done.code == 3
    [first, second, third] = done.out.splitlines()
    assert re.fullmatch(r"n01: answers, up for \d+ s(, \d+ readings wait)?(, .+)?", first)
    assert (second, third) == ("n02: not connected", "n03: answers, up for 7 s")
    assert done.err.splitlines() == [
        "n03: it comes with another certificate than the record has, "
        f"{other.fingerprint[:16]}…: `limpet rotate n03` finishes what was begun.",
        "x99: the broker knows this node, but the record does not have it.",
    ]
    assert seen["n01"] > seen["n02"] == "2026-11-01T10:00:00+00:00"
    assert not asleep.commands
    assert [each["node_id"] for each in told["strangers"]] == ["x99"]
    assert [bool(each["at"]) for each in told["nodes"]] == [True, False, True]


def test_what_cannot_be_done(site: Site, rig: Rig) -> None:
    for more, code, sentence in (
        (
            ["--broker", "127.0.0.1:1"],
            1,
            "limpet: Cannot subscribe at the broker 127.0.0.1:1: connection refused",
        ),
        (["--ca", "/none"], 1, "limpet: There is no certificate authority in /none: make one"),
        (
            ["--all"],
            2,
            "limpet: Name the nodes by their ids, or take --all, or --expiring 60d: one of the three.",
        ),
    ):
        done = site.limpet(*words(site, "rotate", "n01"), *more)
        assert (done.code, done.out) == (code, "")
        assert done.err.startswith(sentence) and done.err.count("\n") == 1, done.err
    consistent(site, rig)


def test_brokers_of_a_node_file(site: Site) -> None:
    [own] = places(site.node_file)
    assert own == Place("127.0.0.1", site.broker.port, "localhost", "limpet")
    assert places(site.node_file, "127.0.0.1") == places(site.node_file, f"127.0.0.1:{own.port}") == [own]
    assert places(site.node_file, "bench-pi:4000") == [Place("bench-pi", 4000, "localhost", "limpet")]
    assert places(site.node_file, "127.0.0.1:1") == [Place("127.0.0.1", 1, "localhost", "limpet")]
    for broker in ("a:", "a:0", "a:65536", "a:x", "no host", ":1"):
        with pytest.raises(LimpetError, match=r"write HOST, or HOST:PORT|neither a host name nor"):
            places(site.node_file, broker)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CertificateAuthority]:
    """An authority of somebody who owns the broker."""
    folder = tmp_path_factory.mktemp("foreign")
    with cheap_passphrases():
        CertificateAuthority.init(folder / "ca", unlock(), folder / "ca.backup")
    with CertificateAuthority.open(folder / "ca", unlock()) as ca:
        yield ca


def use(operator: Operator, data: bytes, same: int = 0) -> None:
    """Put it on the node, but for as many bytes as it has already, and have it used."""
    for command, at in pieces.put(data, operator.room("n01")):
        if at > same:
            assert operator.ask("n01", command)["at"] == at
    operator.ask("n01", pieces.use(data))


@pytest.mark.security(3, "IEC 62443-4-2 CR 1.5", "IEC 62443-4-2 CR 2.1", "ETSI EN 303 645 5.5-5")
def test_no_other_authority_leads_a_node_away(site: Site, rig: Rig, foreign: CertificateAuthority) -> None:
    """Whoever may send a node commands cannot give it certificates or trusted authorities: only what the
    authority of its present certificate has signed, for this node and this step, is taken."""
    before = on_flash(rig).identity
    sessions = rig.log.count("uplink: connected")
    [now] = public(site.ca_folder).state.live("n01", utc_now())  # commands have changed it
    with operating(site) as operator:
        wait_for(operator, "n01")
        answer = operator.ask("n01", b"key", 60.0)
        sequence = int(answer["sequence"])
        csr = base64.b64decode(answer["csr"])
        theirs = foreign.issue_node(csr, "n01", replace=True)
        fields = partition.certificate_fields((theirs.der, *foreign.chain), foreign.trusted)
        own = partition.certificate_fields((now.der, *site.ca.chain), (*site.ca.trusted, *foreign.trusted))
        good = site.ca.endorse(now, sequence, own)
        other = site.ca.issue_node(request("n07"), "n07")
        flipped = bytearray(good)
        flipped[100] ^= 1
        for data, same, said in (
            (fields, 0, "does not end with an endorsement"),
            (foreign.endorse(theirs, sequence, fields), len(fields), "is not endorsed by the authority of"),
            (fields + good[len(own) :], len(fields), "is not endorsed by"),  # it is for something else
            (bytes(flipped), 0, "is not endorsed by"),
            (site.ca.endorse(other, sequence, own), 0, "is not endorsed by"),  # for another node
            (site.ca.endorse(now, sequence - 1, own), len(own), "is not endorsed by"),  # for an earlier step
        ):
            with pytest.raises(NodeRefusedError, match=said):
                use(operator, data, same)
        assert operator.ask("n01", b"key same")["ok"] is True
        with pytest.raises(NodeRefusedError, match="does not end with"):  # its own certificate, their root
            use(operator, own)
        found = on_flash(rig)
        assert found.identity == before and not found.trial
    assert rig.log.count("uplink: connected") == sessions  # not even a try
    rig.says("orders: use: what was put is not endorsed by the authority of this node")
    site.ca.revoke("n07", "superseded")
    assert run(site, "rotate", "n01").code == 0
    consistent(site, rig)


def test_a_former_authority_endorses_its_successor(site: Site, rig: Rig) -> None:
    """After a rotation of the issuing authority the node's own one is a former one."""
    old = on_flash(rig).identity
    site.ca.rotate(site.folder / "issuing.backup")
    key = site.ca.folder.former_key(f"{x509.load_der_x509_certificate(old.chain[1]).serial_number:x}")
    away = key.rename(site.folder / "away.key")
    done = run(site, "rotate", "n01")
    assert (done.code, on_flash(rig).identity) == (1, old)
    assert done.err.endswith("put that key back for this, or restore a backup.\n"), done.err
    away.rename(key)
    assert run(site, "rotate", "n01").code == 0
    assert on_flash(rig).identity.chain[1] != old.chain[1]
    consistent(site, rig)


def test_other_trusted_authorities(site: Site, rig: Rig) -> None:
    """A new root: first every node trusts both, then the old one goes."""
    before = on_flash(rig).identity
    site.ca.rotate(root=True, backup=site.folder / "next.backup")
    trusted = map(x509.load_der_x509_certificate, (*site.ca.chain, *site.ca.trusted))
    broker = site.broker
    ca_file = site.folder / "broker" / "ca.crt"
    ca_file.write_bytes(ca_file.read_bytes() + pem(*trusted))
    broker.stop()
    site.broker = site.start_broker(broker.port)
    with operating(site) as operator:
        wait_until(lambda: operator.of("n01").is_up, "the node at the new broker")
    done = run(site, "rotate", "--all", "--trust")
    assert (done.code, done.out[:27]) == (0, "n01: trusts the authority's"), done.err
    consistent(site, rig)
    now = on_flash(rig).identity
    assert now.key == before.key
    assert len(now.cas) == 2 and before.cas[0] in now.cas
    assert site.ca.retire_root()  # no node is left under the old one, but brokers are
