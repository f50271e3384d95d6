"""An authority whose issuing key never leaves a PKCS#11 token. SoftHSM is the token."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from host_tools.ca import CertificateAuthority, audit, keys, passphrase
from host_tools.ca.passphrase import Unlock
from host_tools.errors import RefusedError
from host_tools.pki import endorsement, partition
from tests.host.authorities import PASSPHRASE, cheap_passphrases, request
from tests.host.shell import limpet, refused
from tests.host.soft_token import PIN, make_token, module, softhsm, uri

pytestmark = pytest.mark.skipif(module() is None, reason="SoftHSM is not installed (apt: softhsm2)")


def told(*lines: str) -> Unlock:
    """What gives these in their order."""
    reader, writer = os.pipe()
    os.write(writer, "".join(f"{line}\n" for line in lines).encode())
    os.close(writer)
    return passphrase.from_descriptor(reader, "the authority of a test")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("token")
    with softhsm(folder), cheap_passphrases():
        make_token("plant 7")
        written = CertificateAuthority.init(
            folder / "ca", told(PASSPHRASE, PIN), folder / "birth.backup", issuing_uri=uri("plant 7")
        )
        assert written.in_token == ("issuing.key",)
        yield folder


def test_its_next_key_does_not_go_into_a_file_unsaid(made: Path) -> None:
    refused(
        limpet("ca", "rotate", "--ca", made / "ca", "--backup", made / "no.backup"),
        "The issuing key is in a token: say by --issuing-key where the next one goes.",
        2,
    )
    assert not (made / "no.backup").exists()


def test_it_issues_revokes_and_rotates(made: Path) -> None:
    folder = made / "ca"
    assert keys.in_token(folder / "issuing.key") and not keys.in_token(folder / "root.key")
    with CertificateAuthority.open(folder, told(PIN, PASSPHRASE)) as ca:  # the PIN is asked for first
        issued = ca.issue_node(request("n01"), "n01")
        [issuing] = map(x509.load_der_x509_certificate, ca.chain)
        issued.certificate.verify_directly_issued_by(issuing)
        ca.rotate(made / "second.backup", issuing_uri=uri("plant 7"))
        assert ca.renew_node("n01").issuer == ca.state.issuing != issued.issuer
        fields = partition.certificate_fields(ca.chain, ca.trusted)
        endorsed = ca.endorse(issued, 2, fields)  # for a node that is to leave it
        numbers = (int.from_bytes(endorsed[at:][:32], "big") for at in (-64, -32))
        signed = endorsement.message(bytes.fromhex(issued.fingerprint), 2, "n01", fields)
        key = issuing.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(SHA256()))
        ca.revoke(issued.serial, "superseded")  # by the key that was, in the token as well
        with pytest.raises(RefusedError, match="the node n01 has is not live"):
            ca.endorse(issued, 2, fields)
    assert audit(folder).findings == ()
    assert keys.in_token(folder / "former" / f"{issued.issuer}.key")
    with CertificateAuthority.open(folder, told(PIN)) as ca:
        assert len(ca.live("n01")) == 1
