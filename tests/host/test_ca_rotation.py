"""Rotation of the authority: another issuing CA, another root, and a fleet that survives both."""

import datetime
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from host_tools.ca import CertificateAuthority, Issued, audit, public, rotation
from host_tools.errors import LimpetError, RefusedError, UsageError
from host_tools.pki import crl
from tests.host.authorities import Place, cheap_passphrases, make, request, unlock, whole_again
from tests.host.killing import killed

DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cheap_passphrases():
        yield make(tmp_path_factory.mktemp("model"))


@pytest.fixture
def place(model: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, model)


@pytest.fixture
def ca(place: Place) -> Iterator[CertificateAuthority]:
    with place.open() as opened:
        yield opened
    assert audit(place.ca, now=place.clock()).findings == ()
    with place.open() as again:
        assert again.mended == ()


def loaded(certificates: tuple[bytes, ...]) -> list[x509.Certificate]:
    return list(map(x509.load_der_x509_certificate, certificates))


def admits(roots: tuple[bytes, ...], leaf: x509.Certificate, chain: tuple[bytes, ...]) -> bool:
    """Whether a broker with these roots lets a client with this chain in."""
    verifier = PolicyBuilder().store(Store(loaded(roots))).build_client_verifier()
    try:
        verifier.verify(leaf, loaded(chain))
    except VerificationError:
        return False
    return True


def trusts(roots: tuple[bytes, ...], ca: CertificateAuthority) -> bool:
    """Whether a node with these roots takes a broker whose certificate is made now."""
    broker = ca.issue_broker(["localhost"])
    verifier = PolicyBuilder().store(Store(loaded(roots))).build_server_verifier(x509.DNSName("localhost"))
    try:
        verifier.verify(broker.certificate, list(broker.chain))
    except VerificationError:
        return False
    return True


def listed(place: Place) -> dict[str, set[int]]:
    lists = crl.from_pem((place.ca / "crl.pem").read_bytes())
    return {each.issuer.rfc4514_string(): {entry.serial_number for entry in each} for each in lists}


def issuer(certificate: Issued) -> str:
    return certificate.certificate.issuer.rfc4514_string()


def test_another_issuing_authority(ca: CertificateAuthority, place: Place) -> None:
    old_chain, roots = ca.chain, ca.trusted
    before = [ca.issue_node(request(name), name) for name in ("n01", "n02")]
    ca.rotate(place.folder / "second.backup")
    after = ca.issue_node(request("n03"), "n03")
    assert ca.trusted == roots and ca.chain != old_chain
    assert issuer(after) != issuer(before[0])
    assert admits(roots, before[0].certificate, old_chain)
    assert admits(roots, after.certificate, ca.chain)
    assert not admits(roots, after.certificate, old_chain)
    assert trusts(roots, ca)
    ca.revoke("n01", "superseded")
    ca.revoke("n03", "superseded")
    assert len(listed(place)) == 3
    assert listed(place)[issuer(before[0])] == {int(before[0].serial, 16)}
    assert listed(place)[issuer(after)] == {int(after.serial, 16)}
    assert (place.ca / "former" / f"{before[0].issuer}.key").exists() and not (place.ca / "next").exists()
    assert [line.event for line in public(place.ca).lines[4:6]] == ["rotate", "backup"]


def test_a_node_is_renewed_by_the_new_authority(ca: CertificateAuthority, place: Place) -> None:
    old = ca.issue_node(request("n01"), "n01")
    ca.rotate(place.folder / "second.backup")
    new = ca.renew_node("n01")
    assert new != old and new.issuer == ca.state.issuing and ca.live("n01") == (old, new)
    assert ca.renew_node("n01") == new
    ca.keep_only("n01", new.fingerprint)
    assert ca.live("n01") == (new,)


def test_the_same_request_after_a_rotation(ca: CertificateAuthority, place: Place) -> None:
    csr = request("n01")
    old = ca.issue_node(csr, "n01")
    ca.rotate(place.folder / "second.backup")
    new = ca.issue_node(csr, "n01", overlap=True)
    assert ca.live("n01") == (old, new)
    ca.revoke(new.serial, "superseded")
    new = ca.issue_node(csr, "n01")
    assert new.issuer == ca.state.issuing and ca.live("n01") == (new,) and old.serial in ca.state.revoked


def test_a_fleet_survives_another_root(ca: CertificateAuthority, place: Place) -> None:
    first = ca.trusted
    old = {name: ca.issue_node(request(name), name) for name in ("n01", "n02", "n03", "n04")}
    old_chain = ca.chain
    with pytest.raises(RefusedError, match="There is one root alone"):
        ca.retire_root()
    ca.rotate(place.folder / "second.backup", root=True)
    both = ca.trusted
    assert len(both) == 2 and both[0] == first[0]
    assert x509.load_pem_x509_certificates((place.ca / "trusted.crt").read_bytes()) == loaded(both)
    # A node that knows the old root alone, and one that knows both, take brokers, and brokers take them.
    new = ca.renew_node("n01")
    assert admits(both, old["n02"].certificate, old_chain) and admits(both, new.certificate, ca.chain)
    assert trusts(first, ca) and trusts(both, ca)
    assert len(listed(place)) == 4
    with pytest.raises(RefusedError, match=r"under the old root \(n01, n02, n03 and 1 more\): give them new"):
        ca.retire_root()
    ca.keep_only("n01", new.fingerprint)
    for name in ("n02", "n03"):
        ca.keep_only(name, ca.renew_node(name).fingerprint)
    ca.revoke("n04", "cessation-of-operation")
    left = ca.retire_root()
    assert {each.kind for each in left} == {"broker"}
    assert ca.trusted == both[1:]
    assert admits(ca.trusted, new.certificate, ca.chain)
    assert not admits(ca.trusted, old["n04"].certificate, old_chain)
    assert trusts(both, ca) and trusts(ca.trusted, ca) and not trusts(first, ca)
    assert len(listed(place)) == 2
    ca.revoke("n01", "superseded")
    assert listed(place)[issuer(new)] == {int(new.serial, 16)}


def test_a_former_authority_can_be_revoked_with_all_that_it_issued(
    ca: CertificateAuthority, place: Place
) -> None:
    one, two = ca.issue_node(request("n01"), "n01"), ca.issue_node(request("n02"), "n02")
    former = ca.state.issuing
    ca.rotate(place.folder / "second.backup")
    three = ca.issue_node(request("n03"), "n03")
    gone = ca.revoke(former, "ca-compromise")
    assert [each.serial for each in gone] == [one.serial, two.serial, former]
    [root] = loaded(ca.trusted)
    assert listed(place)[root.subject.rfc4514_string()] == {int(former, 16)}
    assert listed(place)[issuer(one)] == {int(one.serial, 16), int(two.serial, 16)}
    assert ca.live("n03") == (three,)
    assert ca.issue_broker(["localhost"]).chain[0].serial_number == int(ca.state.issuing, 16)


def test_after_it_has_expired(ca: CertificateAuthority, place: Place) -> None:
    place.clock.moved = 5 * 366 * DAY
    with pytest.raises(LimpetError, match="'limpet ca rotate'"):
        ca.issue_client("console")
    ca.rotate(place.folder / "second.backup")
    ca.issue_node(request("n01"), "n01")
    assert len(listed(place)) == 2  # the root's and the new one's: what has expired needs none
    place.clock.moved = 21 * 366 * DAY
    with pytest.raises(LimpetError, match=r"The root expired on 20.*with --root"):
        ca.rotate(place.folder / "third.backup")
    ca.rotate(place.folder / "third.backup", root=True)
    ca.issue_node(request("n01"), "n01")


def test_nothing_is_issued_by_a_key_that_is_in_no_backup(place: Place) -> None:
    with place.open() as ca:
        with ca.acting():
            rotation.rotate(ca, root=False)
        with pytest.raises(RefusedError, match="are in no backup: make one with 'limpet ca backup'"):
            ca.issue_node(request("n01"), "n01")
        ca.backup(place.folder / "second.backup")
        ca.issue_node(request("n01"), "n01")
    restored = place.folder / "restored"
    CertificateAuthority.restore(place.folder / "second.backup", restored, unlock())
    with CertificateAuthority.open(restored, unlock()) as again:
        again.issue_node(request("n02"), "n02")
    assert audit(restored).findings == ()


def test_a_backup_that_is_in_the_way(ca: CertificateAuthority, place: Place) -> None:
    n = ca.state.n
    (place.folder / "taken").write_text("")
    with pytest.raises(RefusedError, match="taken is there already"):
        ca.rotate(place.folder / "taken")
    with pytest.raises(RefusedError, match="would be lost with it"):
        ca.rotate(place.ca / "inside")
    with pytest.raises(UsageError):
        ca.issue_node(request("n01"), "n01", days=0)
    assert ca.state.n == n


@pytest.mark.parametrize(
    ("root", "step"), [(False, 2), (True, 5), pytest.param(True, 1, marks=pytest.mark.soak)]
)
def test_killed_while_it_rotates(
    model: Path, tmp_path: Path, root: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: None
    )  # a kill leaves the system's buffers as they are

    def act(ca: CertificateAuthority) -> None:
        with ca.acting():
            rotation.rotate(ca, root=root)

    rotated = []
    for at in itertools.count(1, step):
        place = Place(tmp_path / str(at), model)
        ca = place.open()
        old = ca.issue_node(request("n01"), "n01")
        if not killed(functools.partial(act, ca), at):
            break
        whole_again(place)
        with place.open() as ca:
            rotated.append(ca.state.issuing != old.issuer)
            if rotated[-1]:
                ca.backup(place.folder / "second.backup")
            else:
                ca.rotate(place.folder / "second.backup", root=root)
            ca.revoke("n01", "superseded")  # by the key of the one that was
            assert listed(place)[issuer(old)] == {int(old.serial, 16)}
            assert ca.issue_node(request("n02"), "n02").issuer == ca.state.issuing != old.issuer
            assert len(ca.trusted) == 1 + root
        assert audit(place.ca).findings == ()
    assert len(rotated) * step > 30 and sorted(rotated) == rotated and set(rotated) == {False, True}
