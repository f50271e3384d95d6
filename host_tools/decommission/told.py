"""How it is told what was decommissioned."""

from host_tools.decommission.run import Done


def line(done: Done) -> str:
    """The line about a node that is gone."""
    count = len(done.revoked)
    certificates = "1 certificate" if count == 1 else f"{count or 'no'} certificates"
    if done.proof is None:
        return f"{done.target.node_id}: written off, {certificates} revoked; board {done.target.mac} is lost"
    return (
        f"{done.target.node_id}: decommissioned, {certificates} revoked; board {done.target.mac}, all "
        f"{done.proof.size} bytes of its flash are erased"
    )
