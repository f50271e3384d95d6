"""What is said of a board afterwards. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from host_tools import errors
from host_tools.deploy.run import Result


def exit_code(results: Sequence[Result]) -> int:
    """That of the command: the code that all failures have, else 1; 0 when there are none."""
    codes = {result.error.exit_code for result in results if result.error}
    return codes.pop() if len(codes) == 1 else errors.FAILED if codes else errors.DONE


def lines(result: Result, dry_run: bool) -> Iterator[str]:
    """What was done to a board, or would be: a line a file, the summary last. Nothing of one that failed."""
    if result.outcome is None:
        return
    todo = result.outcome.plan
    would = "would be " if dry_run else ""
    for name in todo.changed:
        yield f"  {name}, {result.outcome.sizes[name]} bytes"
    for name in todo.removed:
        yield f"  {name} {would}removed"
    if todo.changed or todo.removed:
        written = f"{len(todo.changed)} {would}written, {len(todo.removed)} {would}removed"
        yield f"{result.port}: {written}, {todo.same} the same"
    else:
        yield f"{result.port}: nothing to do, all {todo.same} files are the same"


def values(result: Result) -> dict[str, Any]:
    """As --json has it."""
    outcome = result.outcome
    return {
        "port": result.port,
        "written": [{"path": name, "size": size} for name, size in outcome.sizes.items()] if outcome else [],
        "removed": list(outcome.plan.removed) if outcome else [],
        "same": outcome.plan.same if outcome else 0,
        "sent": outcome.sent if outcome else 0,
        "error": str(result.error) if result.error else None,
        "exit_code": result.error.exit_code if result.error else errors.DONE,
    }
