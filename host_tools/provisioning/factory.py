"""Factory images: a flash image a node, with an identity whose key was made here and is nowhere else."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from host_tools.ca import CertificateAuthority, Issued
from host_tools.errors import LimpetError, RefusedError
from host_tools.fleet import CLAIMED, Fleet
from host_tools.fleet.record import utc
from host_tools.image import SETTINGS_NAME, filesystem, firmware_files
from host_tools.pki import partition
from host_tools.pki.files import exists, make_private_folder, read, write_private
from host_tools.provisioning.order import Order

IMAGE = "factory image"
"""The journal's word for an image that was written."""
_EVENT = "factory-image"
_NO_BOARD = "02:"
"""A locally administered address (IEEE 802c): it stands for the board that an image will find."""


@dataclass(frozen=True)
class Made:
    """An image that was written."""

    node_id: str
    path: Path
    sha256: str
    serial: str
    fingerprint: str
    expires: str
    revoked: tuple[str, ...]
    """Fingerprints of certificates whose images were begun and never written."""


def is_without_board(mac: str) -> bool:
    """Whether a node of the fleet record is an image still, and no board is known for it."""
    return mac.startswith(_NO_BOARD)


def make_images(
    order: Order,
    ca: CertificateAuthority,
    fleet: Fleet,
    folder: Path,
    count: int,
    made: Callable[[Made], None],
    moment: Callable[[str], None] = lambda what: None,
) -> None:
    """Write so many images into `folder`, `<node id>.bin`, for their owner alone; `made` is told of each.

    Those that an earlier run began and did not write come first. Raises LimpetError.
    """
    make_private_folder(folder)
    begun = [
        node
        for node in fleet.nodes()
        if node.state == CLAIMED
        and is_without_board(node.mac)
        and order.naming.means(node.node_id)
        and all(entry.step != IMAGE for entry in fleet.journal(node.mac))
    ]
    files = {**firmware_files(), SETTINGS_NAME: order.settings}
    flash = bytearray(order.image.flash)
    _put(order, flash, "vfs", filesystem(files, order.partition("vfs").size))
    for number in range(count):
        if number < len(begun):
            node_id, mac = begun[number].node_id, begun[number].mac
        else:
            mac = _NO_BOARD + secrets.token_bytes(5).hex(":")
            node_id = fleet.next_id(order.naming.pattern or "")
            if ca.live(node_id):
                raise RefusedError(
                    f"The authority has issued a certificate for '{node_id}', and the fleet record has no "
                    "such node: take another pattern by --ids, or revoke it."
                )
            node_id = fleet.claim_next(mac, order.naming.pattern or "")
        moment("claimed")
        path = folder / f"{node_id}.bin"
        before = ca.live(node_id)
        issued = _written(order, path, before)
        if issued is None:
            identity = ca.issue_node_key(node_id, replace=True)
            [issued] = ca.live(node_id)
            moment("issued")
            _put(order, flash, "identity", partition.encode(identity))
            write_private(path, bytes(flash))
            moment("written")
        digest = hashlib.sha256(read(path, "image")).hexdigest()
        facts = {"image": digest, "serial": issued.serial, "fingerprint": issued.fingerprint}
        ca.note(_EVENT, node=node_id, **facts)
        moment("in the ledger")
        fleet.note(mac, node_id, IMAGE, **facts)
        gone = tuple(each.fingerprint for each in before if each.serial != issued.serial)
        made(Made(node_id, path, digest, issued.serial, issued.fingerprint, utc(issued.expires), gone))


def _put(order: Order, flash: bytearray, name: str, data: bytes) -> None:
    offset = order.partition(name).offset
    flash[offset : offset + len(data)] = data


def _written(order: Order, path: Path, live: Sequence[Issued]) -> Issued | None:
    """The certificate in an image that an earlier run has written, and not yet recorded."""
    if not exists(path):
        return None
    place = order.partition("identity")
    data = read(path, "image")[place.offset : place.end]
    try:
        [shown, *_] = partition.decode(data).identity.chain
    except LimpetError:
        shown = b""
    for each in live:
        if each.der == shown:
            return each
    raise RefusedError(f"{path} is there already: name another folder by --image-dir, or remove that file.")
