"""The chain from a socket to a first publish, link by link: a sentence for each that does not hold. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from host_tools.errors import UnverifiedError


class LinkError(UnverifiedError):
    """A link of the chain does not hold."""


def same_board(mac: str, on_repl: str) -> None:
    """The board behind the REPL is the one that was asked in its bootloader, and flashed."""
    if mac != on_repl:
        raise LinkError(
            f"the board that was flashed has the MAC address {mac}, and the one that answers now has "
            f"{on_repl}: leave the cables where they are, and run it again."
        )


def own_certificate(certificate: x509.Certificate, key: ec.EllipticCurvePublicKey, node_id: str) -> None:
    """The certificate has the node's key, and its id: the MQTT client id, and the topic that it may write."""
    if certificate.public_key() != key:
        raise LinkError(
            "the certificate that was issued has another key than the board's request: revoke it, and run "
            "it again."
        )
    names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [node_id]:
        raise LinkError(f"the certificate that was issued is for {names}, not '{node_id}': revoke it.")


def installed(node_id: str, fingerprint: str, found: str | None) -> None:
    """The certificate that the node will show is the one that was issued."""
    if found != fingerprint:
        has = f"the one with the fingerprint {found[:16]}…" if found else "none"
        raise LinkError(
            f"the board should have the certificate {fingerprint[:16]}… of '{node_id}', and has {has}: run "
            "it again."
        )


def kept(what: str, digest: str, found: str) -> None:
    """What was written reads back as it was sent."""
    if digest != found:
        raise LinkError(f"the board's {what} do not read back as they were sent: run it again.")


def published(payload: bytes, topic_id: str, node_id: str, fingerprint: str) -> Mapping[str, Any]:
    """The first `about` is of this node, and it came with the certificate that was issued."""
    try:
        about = json.loads(payload)
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise LinkError(f"'{node_id}' publishes an `about` that is no JSON object: update its firmware.")
    if topic_id != node_id or about.get("node") != node_id:
        raise LinkError(
            f"'{node_id}' introduces itself as {about.get('node')!r}, under the topic of '{topic_id}': "
            "provision it anew."
        )
    shown = about.get("certificate")
    if shown != fingerprint:
        shown = f"{shown[:16]}…" if isinstance(shown, str) else "none"
        raise LinkError(
            f"'{node_id}' came to the broker, but not with its certificate {fingerprint[:16]}…: it says "
            f"{shown}. Provision it anew."
        )
    return about
