"""What is said of boards afterwards. Pure."""

from collections.abc import Sequence
from typing import Any

from host_tools import errors
from host_tools.provisioning.factory import Made
from host_tools.provisioning.outcome import ALREADY, IN_SERVICE, Outcome


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """That of the command: the code that all failures have, else 1; 0 when there are none."""
    codes = {outcome.exit_code for outcome in outcomes} - {errors.DONE}
    return codes.pop() if len(codes) == 1 else errors.FAILED if codes else errors.DONE


def told(outcome: Outcome) -> str:
    """The line for a board: what it is, or why not."""
    if outcome.error:
        return f"limpet: {outcome.error}"
    who = f"{outcome.port}: {outcome.node_id}"
    if outcome.state == ALREADY:
        return f"{who} is in service already, as board {outcome.mac}"
    return (
        f"{who} is in service: board {outcome.mac}, certificate {(outcome.fingerprint or '')[:16]}…, first "
        f"published {outcome.first_publish}"
    )


def told_of_image(made: Made) -> str:
    """The line for a factory image."""
    return (
        f"{made.path}: {made.node_id}, certificate {made.fingerprint[:16]}…, valid until {made.expires[:10]}"
    )


def image_values(made: Made) -> dict[str, Any]:
    """A factory image, as --json has it."""
    return {
        "node": made.node_id,
        "file": str(made.path),
        "image": made.sha256,
        "serial": made.serial,
        "certificate": made.fingerprint,
        "expires": made.expires,
        "revoked": list(made.revoked),
    }


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The command's result for --json; `error` has all sentences, when there are any."""
    failures = [outcome.error for outcome in outcomes if outcome.error]
    return {
        **({"error": "\n".join(failures)} if failures else {}),
        "exit_code": exit_code(outcomes),
        "boards": [outcome.values() for outcome in outcomes],
    }


def latest(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Each board's last outcome; it may have been plugged in more than once."""
    return list({outcome.mac or outcome.port: outcome for outcome in outcomes}.values())


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How many boards ended how, for --json."""
    last = latest(outcomes)
    return {
        "in_service": sum(outcome.state == IN_SERVICE for outcome in outcomes),
        "already": sum(outcome.state == ALREADY for outcome in last),
        "failed": sum(outcome.error is not None for outcome in last),
        "exit_code": exit_code(last),
    }


def told_summary(outcomes: Sequence[Outcome]) -> str:
    """How many boards ended how, in a line."""
    counted = summary(outcomes)
    return (
        f"{counted['in_service']} brought into service, {counted['already']} were in service already, "
        f"{counted['failed']} failed"
    )
