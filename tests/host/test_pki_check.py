"""An identity is looked over before it goes to a node: each fault has its own sentence."""

import dataclasses
import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from host_tools.errors import LimpetError
from host_tools.pki.authority import Authority
from host_tools.pki.check import check_identity
from host_tools.pki.partition import Identity, decode, encode

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("pki") / "other")


def refusal(identity: Identity, **options: datetime.datetime) -> str:
    with pytest.raises(LimpetError) as caught:
        check_identity(identity, **options)
    return str(caught.value)


def test_good_identity_passes_through_its_partition(authority: Authority) -> None:
    identity = authority.issue_node("n01")
    check_identity(identity)
    read_back = decode(encode(identity)).identity
    assert read_back == identity
    check_identity(read_back)


def test_one_of_several_trusted_cas_is_enough(authority: Authority, other: Authority) -> None:
    identity = authority.issue_node("n01")
    stranger = other.certificate.public_bytes(Encoding.DER)
    check_identity(dataclasses.replace(identity, cas=(stranger, *identity.cas)))


def test_key_of_another(authority: Authority) -> None:
    identity, another = authority.issue_node("n01"), authority.issue_node("n01")
    text = refusal(dataclasses.replace(identity, key=another.key))
    assert text.startswith("The private key of node n01 does not belong to its certificate")


def test_name_of_another(authority: Authority) -> None:
    text = refusal(dataclasses.replace(authority.issue_node("n02"), node_id="n01"))
    assert text.startswith("The certificate of node n01 bears the name n02")


def test_expired(authority: Authority) -> None:
    text = refusal(authority.issue_node("n01", now=LONG_AGO))
    assert text == "The certificate of node n01 expired on 2022-04-04: issue a new one."


def test_not_yet_valid(authority: Authority) -> None:
    assert "not valid before" in refusal(authority.issue_node("n01"), now=LONG_AGO)


def test_untrusted(authority: Authority, other: Authority) -> None:
    identity = authority.issue_node("n01")
    text = refusal(dataclasses.replace(identity, cas=other.issue_node("n01").cas))
    assert text.startswith("The certificate of node n01 does not lead to a CA that the node trusts")


def test_expired_authority(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path / "ca")
    later = authority.certificate.not_valid_after_utc + datetime.timedelta(days=1)
    assert "expired on" in refusal(authority.issue_node("n01"), now=later)


def test_server_certificate(authority: Authority) -> None:
    broker = authority.issue_broker(["n01"])
    identity = Identity(
        "limpet broker",
        broker.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        (broker.certificate.public_bytes(Encoding.DER),),
        (authority.certificate.public_bytes(Encoding.DER),),
    )
    assert "is not for TLS clients" in refusal(identity)


def test_junk(authority: Authority) -> None:
    identity = authority.issue_node("n01")
    key = refusal(dataclasses.replace(identity, key=b"canary-key"))
    assert "the private key of node n01 are no key" in key and "canary" not in key
    assert "a certificate of node n01 are no" in refusal(dataclasses.replace(identity, chain=(b"junk",)))
    assert "a trusted CA of node n01 are no" in refusal(dataclasses.replace(identity, cas=(b"junk",)))


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.5", "ETSI EN 303 645 5.13-1")
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_no_bit_of_an_identity_makes_a_traceback(authority: Authority) -> None:
    """An identity with any one bit of its certificate flipped, or cut short, is refused in a sentence."""
    identity = authority.issue_node("n01")
    [good] = identity.chain
    spoilt = [good[:size] for size in range(0, len(good), 7)]
    for at in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[at // 8] ^= 1 << at % 8
        spoilt.append(bytes(flipped))
    refused = 0
    for each in spoilt:
        try:
            check_identity(dataclasses.replace(identity, chain=(each,)))
        except LimpetError as error:
            refused += 1
            assert str(error).endswith(".") and "\n" not in str(error)
    assert refused >= len(spoilt) - 8  # the count of unused bits before the signature says nothing
