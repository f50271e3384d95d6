"""How an authority is followed by the next one, without a node that loses its way.

Another issuing authority under the same root: what the old one has issued stays valid. Another root beside
the old one: both are trusted until `retire`, which waits for the nodes.
"""

from cryptography.x509.oid import NameOID

from host_tools.ca import keys
from host_tools.ca import state as kinds
from host_tools.ca.opened import Opened
from host_tools.ca.state import Issued
from host_tools.errors import LimpetError, RefusedError
from host_tools.pki import files, profiles
from host_tools.pki.profiles import Signer


def rotate(
    authority: Opened, *, root: bool, root_uri: str | None = None, issuing_uri: str | None = None
) -> None:
    """Make the next issuing authority, and with `root` a new root above it.

    Must be called while the authority is acting. Raises LimpetError if the key of the root is not there, the
    root is out of date, or a file cannot be written.
    """
    folder, state, now = authority.folder, authority.state, authority.now()
    old = state.issued[state.roots[-1]].certificate
    found = old.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    organisation = str(found[0].value) if found else None
    _clear(authority)
    facts = {}
    new_keys = {}
    if root:
        key = keys.create(folder.next / "root.key", authority.unlock, root_uri)
        signer = Signer(key, profiles.root(key, now, organisation=organisation))
        facts[kinds.ROOT] = kinds.facts_of(kinds.ROOT, signer.certificate)
        above = facts[kinds.ROOT]["serial"]
        new_keys[above] = key
    else:
        above = state.roots[-1]
        expires = state.issued[above].expires
        if now >= expires:
            raise LimpetError(f"The root expired on {expires:%Y-%m-%d}: make a new one with --root.")
        signer = authority.signer(above)
    key = keys.create(folder.next / "issuing.key", authority.unlock, issuing_uri)
    certificate = profiles.issuing(signer, key.public_key(), now, organisation=organisation)
    facts[kinds.ISSUING] = kinds.facts_of(kinds.ISSUING, certificate, above)
    new_keys[facts[kinds.ISSUING]["serial"]] = key
    # By its serial a key is known as the one that the line means, whatever happens between the two.
    for kind, each in facts.items():
        (folder.next / f"{kind}.key").replace(folder.next_key(each["serial"]))
    files.sync_folder(folder.next)
    authority.write(kinds.ROTATE, facts, new_keys)


def retire(authority: Opened) -> tuple[Issued, ...]:
    """Trust the oldest root no more. The result is what else but nodes' is still live under it.

    Must be called while the authority is acting. Raises RefusedError if there is no other root, or a node has
    its live certificate under the old one.
    """
    state, now = authority.state, authority.now()
    if len(state.roots) < 2:
        raise RefusedError("There is one root alone: make the next one with 'limpet ca rotate --root' first.")
    oldest = state.roots[0]
    live = [
        each
        for each in state.issued.values()
        if each.kind not in (kinds.ROOT, kinds.ISSUING)
        and state.counts(each, now)
        and state.root_of(each) == oldest
    ]
    nodes = sorted({each.name for each in live if each.kind == kinds.NODE})
    if nodes:
        some = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
        raise RefusedError(
            f"Nodes have their live certificate under the old root ({some}): "
            "give them new ones with 'limpet rotate --trust', or revoke those that are gone."
        )
    authority.write(kinds.RETIRE, {"serial": oldest, "name": state.issued[oldest].name})
    return tuple(live)


def _clear(authority: Opened) -> None:
    """Remove the keys of a rotation that was killed before its line: nothing was ever signed with them."""
    folder = authority.folder.next
    files.make_private_folder(folder)
    for path in folder.iterdir():
        path.unlink()
