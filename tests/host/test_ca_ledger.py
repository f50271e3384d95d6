"""The ledger: whoever touches it is found out, with the line; a kill leaves nothing unaccounted for."""

import base64
import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from host_tools.ca import CertificateAuthority, audit, ledger
from host_tools.ca import state as kinds
from host_tools.ca.examine import examine
from host_tools.ca.folder import Folder
from host_tools.errors import LimpetError, UnverifiedError
from host_tools.pki import profiles
from tests.host.authorities import Place, cheap_passphrases, make, request, whole_again
from tests.host.killing import killed

CLAUSES = ("IEC 62443-4-2 CR 2.8", "IEC 62443-4-2 CR 3.9")
"""Auditable events, and the protection of audit information."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An authority with a history of twelve lines."""
    with cheap_passphrases():
        folder = make(tmp_path_factory.mktemp("model"))
        place = Place(folder.parent / "place", folder)
        with place.open() as ca:
            for name in ("n01", "n02", "n03"):
                ca.issue_node(request(name), name)
                ca.note("in-service", node=name)
            ca.revoke("n02", "key-compromise")
            ca.note("decommission", node="n02")
            ca.issue_broker(["localhost"])
            ca.revoke("n01", "superseded")
        yield place.ca


@pytest.fixture
def place(model: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, model)


def lines(place: Place) -> list[str]:
    return (place.ca / "ledger.jsonl").read_text().splitlines()


def put(place: Place, changed: list[str]) -> None:
    (place.ca / "ledger.jsonl").write_text("".join(f"{line}\n" for line in changed))


def found(place: Place) -> list[tuple[int | None, str]]:
    return [(each.line, each.text) for each in audit(place.ca).findings]


def refused(place: Place, text: str) -> None:
    """The authority does not go on with such a ledger, and touches nothing."""
    before = (place.ca / "ledger.jsonl").read_bytes()
    with pytest.raises(UnverifiedError, match=f"is not as it was left: .*{text}.*'limpet ca audit'"):
        place.open()
    assert (place.ca / "ledger.jsonl").read_bytes() == before


def test_what_a_line_says(place: Place) -> None:
    values = [json.loads(line) for line in lines(place)]
    events = "init backup issue in-service issue in-service issue in-service revoke decommission issue revoke"
    assert [value["event"] for value in values] == events.split()
    assert [value["n"] for value in values] == list(range(1, 13))
    for before, value in zip(lines(place), values[1:], strict=False):
        assert value["prev"] == ledger.digest(before)
    assert values[0]["prev"] == "0" * 64
    third = values[2]
    certificate = x509.load_der_x509_certificate(base64.b64decode(third["certificate"]))
    assert (third["kind"], third["name"]) == ("node", "n01")
    assert third["serial"] == f"{certificate.serial_number:x}" == values[11]["serial"]
    assert values[8]["reason"] == "key-compromise"


def test_untouched(place: Place) -> None:
    seen = audit(place.ca)
    assert (seen.lines, seen.findings, seen.unfinished) == (12, (), ())
    assert seen.hash == ledger.digest(lines(place)[-1])
    assert audit(place.ca, known=(5, ledger.digest(lines(place)[4]))).findings == ()


@pytest.mark.security(10, *CLAUSES)
@pytest.mark.parametrize("n", range(1, 13))
def test_an_edited_line(place: Place, n: int) -> None:
    """A line of the ledger with one character changed is found and named, whichever line it is."""
    changed = lines(place)
    line = changed[n - 1]
    at = line.index('"time"') + 12
    changed[n - 1] = f"{line[:at]}{int(line[at]) ^ 1}{line[at + 1 :]}"
    put(place, changed)
    assert found(place)[0] == (n, f"line {n} was changed: its seal is wrong")
    assert {line for line, _ in found(place)} == {n}
    refused(place, f"line {n} ")


@pytest.mark.security(10, *CLAUSES)
@pytest.mark.parametrize("n", [2, 7, 12])
def test_an_edit_that_mends_all_hashes_behind_it(place: Place, n: int) -> None:
    """Who edits a line and computes all the following hashes anew is found by the seals, with the line."""
    changed = lines(place)
    values = [json.loads(line) for line in changed]
    values[n - 1]["time"] = "2020-01-01T00:00:00Z"
    for at in range(n - 1, 12):
        if at >= n:
            values[at]["prev"] = ledger.digest(changed[at - 1])
        changed[at] = json.dumps(values[at])
    put(place, changed)
    assert found(place)[0] == (n, f"line {n} was changed: its seal is wrong")
    refused(place, f"line {n} ")


@pytest.mark.security(10, *CLAUSES)
@pytest.mark.parametrize("n", range(1, 12))
def test_a_dropped_line(place: Place, n: int) -> None:
    """A ledger that lacks one of its lines is found, with the number of the line that is missing."""
    changed = lines(place)
    del changed[n - 1]
    put(place, changed)
    assert found(place)[0][0] == n
    assert f"line {n} is missing" in found(place)[0][1]
    refused(place, f"line {n} is missing")


@pytest.mark.security(10, *CLAUSES)
@pytest.mark.parametrize("n", range(2, 12))
def test_reordered_lines(place: Place, n: int) -> None:
    """Two lines of the ledger that changed places are found, with the first one that is not in its place."""
    changed = lines(place)
    changed[n - 1], changed[n] = changed[n], changed[n - 1]
    put(place, changed)
    assert found(place)[0] == (n, f"line {n} is not in its place: lines were put in another order")
    refused(place, f"line {n} ")


@pytest.mark.security(10, *CLAUSES)
@pytest.mark.parametrize("left", range(12))
def test_a_truncated_ledger(place: Place, left: int) -> None:
    """A ledger that was cut off after any of its lines is found, with the first line that is missing."""
    put(place, lines(place)[:left])
    assert found(place)[0][0] == left + 1
    assert found(place)[0][1].startswith(("lines ", "line "))
    assert "missing" in found(place)[0][1]
    refused(place, "missing")


@pytest.mark.security(10, *CLAUSES)
@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_last_line_that_was_cut(place: Place, cut: int) -> None:
    """A ledger that was cut off within its last line is found, with that line: its head knows it as whole."""
    path = place.ca / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert (12, "line 12 is missing: the ledger was cut off") in found(place)
    refused(place, "line 12 is missing")


@pytest.mark.security(10, *CLAUSES)
def test_a_line_twice_or_another_one(place: Place) -> None:
    """A line that stands there twice, one of another authority and one that is no JSON are named."""
    good = lines(place)
    put(place, [*good[:6], good[5], *good[6:]])
    assert found(place)[0] == (6, "line 6 stands there twice")
    key = ec.generate_private_key(ec.SECP256R1())
    at = ledger.parse(good[5])
    forged = ledger.compose(key, 6, at.time, at.event, at.facts, at.prev)
    put(place, [*good[:5], forged.text, *good[6:]])
    assert found(place)[0] == (6, "line 6 was changed: its seal is wrong")
    last = ledger.parse(good[-1])
    more = ledger.compose(key, 13, last.time, "issue", {}, last.hash)
    put(place, [*good, more.text])
    assert found(place)[0] == (13, "line 13 was changed: its seal is wrong")
    refused(place, "line 13 ")
    more = ledger.compose(key, 13, last.time, "in-service", {"node": "n02"}, last.hash)
    put(place, [*good, more.text])
    refused(place, "line 13 was changed: its seal is wrong")
    for junk in ("junk", "[]", "{}", '{"n": 6}', '{"n": true, "seal": ""}', "\x00" * 30, "[" * 5000):
        put(place, [*good[:5], junk, *good[6:]])
        assert found(place)[0][0] == 6 and "line 6 was changed" in found(place)[0][1]
        refused(place, "line 6 ")


@pytest.mark.security(10, *CLAUSES)
def test_the_head(place: Place) -> None:
    """A head that is missing, was changed, or belongs to another ledger is found."""
    path = place.ca / "ledger.head"
    good = path.read_text()
    path.unlink()
    assert found(place) == [(None, "ledger.head is missing, so lines may be missing at the end")]
    refused(place, "ledger.head is missing")
    path.write_text("junk")
    assert found(place) == [(None, "ledger.head was changed: it is no head")]
    path.write_text(good.replace('"n": 12', '"n": 11'))
    assert any("ledger.head" in text for _, text in found(place))
    refused(place, "ledger.head")
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_text(ledger.compose_head(key, ledger.parse(lines(place)[-1])).text)
    assert found(place) == [(None, "ledger.head was changed: its seal is wrong")]


@pytest.mark.security(10, *CLAUSES)
def test_an_older_ledger_with_its_own_head(place: Place, model: Path, tmp_path: Path) -> None:
    """A whole older folder put in place of the newer one is found by a hash that was noted at an audit."""
    older = Place(tmp_path / "older", model)
    with place.open() as ca:
        ca.note("in-service", node="n03")
    noted = audit(place.ca)
    assert audit(older.ca).findings == ()
    [finding] = audit(older.ca, known=(noted.lines, noted.hash)).findings
    assert finding.line == 13 and "which was noted, is missing" in finding.text
    [finding] = audit(place.ca, known=(12, noted.hash)).findings
    assert (finding.line, finding.text) == (12, "line 12 is not the one that was noted")


@pytest.mark.security(10, *CLAUSES)
def test_an_older_head(place: Place) -> None:
    """An older head of the same ledger, which would let lines be cut off later, is found."""
    older = (place.ca / "ledger.head").read_bytes()
    with place.open() as ca:
        ca.note("in-service", node="n03")
        ca.note("in-service", node="n03")
    (place.ca / "ledger.head").write_bytes(older)
    assert found(place) == [(13, "line 13 and what follows was added behind the head's back")]
    refused(place, "line 13 ")


@pytest.mark.security(10, *CLAUSES)
def test_a_ledger_by_somebody_who_has_not_the_roots_key(place: Place) -> None:
    """A ledger made anew, with the true root and an issuing authority that it has not signed, is found."""
    key = ec.generate_private_key(ec.SECP256R1())
    first = ledger.parse(lines(place)[0])
    root = x509.load_der_x509_certificate(base64.b64decode(first.facts["root"]["certificate"]))
    forged = profiles.issuing(profiles.Signer(key, root), key.public_key(), first.time)
    facts = kinds.facts_of("issuing", forged, first.facts["root"]["serial"])
    line = ledger.compose(
        key, 1, first.time, "init", {"root": first.facts["root"], "issuing": facts}, ledger.NOTHING
    )
    put(place, [line.text])
    (place.ca / "ledger.head").write_text(ledger.compose_head(key, line).text)
    assert found(place)[0] == (1, "line 1 was changed: its seal is wrong")
    refused(place, "line 1 was changed")


@pytest.mark.security(10, *CLAUSES)
@pytest.mark.parametrize("lie", ["name", "expires", "key", "fingerprint", "certificate"])
def test_a_line_that_lies_about_its_certificate(place: Place, lie: str) -> None:
    """A line that was sealed and does not say what its certificate says is found."""
    with place.open() as ca:
        signer = ca.signer(ca.state.issuing)
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        made, other = (profiles.node(signer, name, key, place.clock()) for name in ("n07", "n08"))
        facts = kinds.facts_of("node", made, ca.state.issuing)
        wrong = kinds.facts_of("node", other, ca.state.issuing)
        changes = {**wrong, "key": "00" * 32, "expires": "2099-01-01T00:00:00Z"}
        with ca.acting():
            ca.write("issue", {**facts, lie: changes[lie]})
    assert (13, "the certificate in line 13 is not what that says") in found(place)


@pytest.mark.security(10, *CLAUSES)
def test_certificates_against_the_ledger(place: Place) -> None:
    """A certificate without a line, a line without its certificate, and exchanged ones are found."""
    values = [json.loads(line) for line in lines(place)]
    first, second = (place.ca / "issued" / f"{values[at]['serial']}.crt" for at in (2, 4))
    kept = first.read_bytes()
    first.unlink()
    assert found(place) == [(3, f"issued/{first.name}, the certificate of line 3, is missing")]
    first.write_bytes(second.read_bytes())
    assert found(place) == [(3, f"issued/{first.name} is not the certificate of line 3")]
    first.write_bytes(b"junk")
    assert found(place) == [(3, f"issued/{first.name} is not the certificate of line 3")]
    first.write_bytes(kept)
    (place.ca / "issued" / "ab12.crt").write_bytes(kept)
    assert found(place) == [(None, "issued/ab12.crt is in no line of the ledger")]


@pytest.mark.security(10, *CLAUSES)
@pytest.mark.parametrize("name", ["root.crt", "issuing.crt", "chain.crt", "trusted.crt"])
def test_own_certificates_against_the_ledger(place: Place, name: str) -> None:
    """Another root or issuing certificate slipped into the folder is found."""
    other = base64.b64decode(json.loads(lines(place)[10])["certificate"])
    (place.ca / name).write_bytes(x509.load_der_x509_certificate(other).public_bytes(Encoding.PEM))
    assert found(place) == [(None, f"{name} is not what the ledger says")]
    (place.ca / name).unlink()
    assert found(place) == [(None, f"{name} is missing")]


@pytest.mark.security(10, *CLAUSES)
def test_the_crl_against_the_ledger(place: Place, model: Path) -> None:
    """A CRL that lacks a revocation, or was exchanged for an older one, is found with the line of it."""
    path = place.ca / "crl.pem"
    older = path.read_bytes()
    with place.open() as ca:
        [gone] = ca.revoke("n03", "superseded")
    path.write_bytes(older)
    [(line, text)] = found(place)
    assert line == 13 and f"lacks the revocation of {gone.serial} in line 13" in text
    path.write_bytes(b"junk")
    assert len(found(place)) == 2 and all("has no list that limpet" in text for _, text in found(place))
    path.unlink()
    assert found(place) == [(None, "crl.pem is missing")]
    with place.open() as ca:
        assert ca.mended == ("crl.pem was made anew",)
    assert found(place) == []
    assert json.loads(lines(place)[-1])["event"] == "mended"


# -- killed, or without power --------------------------------------------------------------------------------


def test_half_a_line_is_mended_and_told(place: Place) -> None:
    path = place.ca / "ledger.jsonl"
    whole = path.read_bytes()
    for torn in (b"{", b'{"n": 13, "time"', b"\0" * 77):
        path.write_bytes(whole + torn)
        assert found(place) == []
        assert audit(place.ca).unfinished == ("the line after line 12 was cut short",)
        with place.open() as ca:
            assert ca.mended == (f"line 13 was cut short, its {len(torn)} bytes were removed",)
        assert json.loads(lines(place)[-1])["what"] == list(ca.mended)
        assert (found(place), audit(place.ca).unfinished) == ([], ())
        (place.ca / "ledger.head").write_bytes(head_of(whole, ca))
        path.write_bytes(whole)


def head_of(data: bytes, ca: CertificateAuthority) -> bytes:
    last = ledger.parse(data.decode().splitlines()[-1])
    return ledger.compose_head(ca.signer(ca.state.issuing).key, last).text.encode()


def test_a_line_without_its_head_is_mended_and_told(place: Place) -> None:
    with place.open() as ca:
        before = (place.ca / "ledger.head").read_bytes()
        issued = ca.issue_node(request("n04"), "n04")
    (place.ca / "ledger.head").write_bytes(before)
    (place.ca / "issued" / f"{issued.serial}.crt").unlink()
    seen = audit(place.ca)
    assert seen.findings == ()
    assert seen.unfinished == ("line 13 was written, and what follows from it was not finished",)
    with place.open() as ca:
        assert ca.mended == ("line 13 had no head", f"issued/{issued.serial}.crt was made anew")
        assert ca.live("n04") == (issued,)
    assert (found(place), audit(place.ca).unfinished) == ([], ())


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves the system's buffers as they are: a disk that is waited for makes no difference to it."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def at_each_write(
    model: Path, folder: Path, act: Callable[[CertificateAuthority], object], see: Callable[[Place], None]
) -> int:
    at = 0
    while True:
        at += 1
        place = Place(folder / str(at), model)
        ca = place.open()
        if not killed(functools.partial(act, ca), at):
            return at - 1
        whole_again(place)
        see(place)


@pytest.mark.usefixtures("quick_disk")
def test_killed_while_it_issues(model: Path, tmp_path: Path) -> None:
    csr = request("n09")
    seen = []

    def see(place: Place) -> None:
        with place.open() as ca:
            before = ca.live("n09")
            issued = ca.issue_node(csr, "n09")
            assert before in ((), (issued,))
            assert ca.live("n09") == (issued,)
            assert sum(each.name == "n09" for each in ca.state.issued.values()) == 1
            seen.append(len(before))
        assert found(place) == []

    writes = at_each_write(model, tmp_path, lambda ca: ca.issue_node(csr, "n09"), see)
    assert writes >= 8 and set(seen) == {0, 1}


@pytest.mark.usefixtures("quick_disk")
def test_killed_while_it_revokes(model: Path, tmp_path: Path) -> None:
    def see(place: Place) -> None:
        with place.open() as ca:
            ca.revoke("n03", "superseded")
            assert ca.live("n03") == () and len(ca.state.revoked) == 3
        assert found(place) == []

    assert at_each_write(model, tmp_path, lambda ca: ca.revoke("n03", "superseded"), see) >= 8


@pytest.mark.usefixtures("quick_disk")
def test_killed_while_it_mends(model: Path, tmp_path: Path) -> None:
    unfinished = Place(tmp_path / "unfinished", model)
    with unfinished.open() as ca:
        before = (unfinished.ca / "ledger.head").read_bytes()
        ca.revoke("n03", "superseded")
    (unfinished.ca / "ledger.head").write_bytes(before)
    (unfinished.ca / "crl.pem").write_bytes((model / "crl.pem").read_bytes())
    at = 0
    while True:
        at += 1
        place = Place(tmp_path / str(at), unfinished.ca)
        if not killed(place.open, at):
            break
        whole_again(place)
    assert at > 8


def test_a_disk_that_is_full(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.open() as ca:

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(
                LimpetError, match=r"ledger\.jsonl cannot be written: No space left on device"
            ):
                ca.issue_node(request("n04"), "n04")
        ca.issue_node(request("n04"), "n04")
        assert len(ca.live("n04")) == 1
    assert found(place) == []


def test_another_process_keeps_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_tools.ca.folder._PATIENCE_S", 0.1)
    with place.open() as ca, Folder(place.ca).locked():
        with pytest.raises(LimpetError, match="Another limpet has been writing in"):
            ca.note("in-service", node="n01")
        with pytest.raises(LimpetError, match="Another limpet has been writing in"):
            audit(place.ca)


def test_seals_are_looked_at_where_hashes_do_not_vouch(place: Place) -> None:
    data = (place.ca / "ledger.jsonl").read_bytes()
    head = (place.ca / "ledger.head").read_bytes()
    assert examine(data, head).findings == examine(data, head, thorough=True).findings == ()
    assert examine(data, head).state.issued.keys() == examine(data, head, thorough=True).state.issued.keys()
