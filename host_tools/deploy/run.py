"""Boards side by side: a thread each, and one that fails does not stop the others."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from pathlib import Path

from host_tools.deploy.board import Outcome, deploy
from host_tools.errors import LimpetError

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Result:
    """How it went with one board: an outcome, or an error."""

    port: str
    outcome: Outcome | None = None
    error: LimpetError | None = None


def firmware(node_file: Path | None) -> Files:
    """This firmware and, if given, the settings in `node_file`. Raises LimpetError."""
    from host_tools import image  # it takes long to load: ports open meanwhile

    files = image.firmware_files()
    if node_file is not None:
        from host_tools import settings

        checked = settings.check(node_file)
        files[image.SETTINGS_NAME] = settings.dump(settings.to_node_json(checked.node_file, checked.board))
    return files


def deploy_all(
    ports: Sequence[str],
    make: Callable[[], Files],
    progress: Callable[[str, str, int, int], None],
    dry_run: bool = False,
) -> list[Result]:
    """Deploy to all of these ports at once, and give the results in their order.

    Ports are opened while `make` makes the files, and no board is touched before it has. `progress` is told
    the port, what is being done, and how many bytes of how many; it is called from many threads.
    Raises what `make` raises; errors of boards are in their results.
    """
    files: Future[Files] = Future()
    stop = threading.Event()

    def run(port: str) -> Result:
        def tell(doing: str, sent: int, size: int) -> None:
            progress(port, doing, sent, size)

        try:
            outcome = deploy(port, files.result, tell, stop, dry_run)
        except LimpetError as error:
            tell("failed", 1, 1)
            return Result(port, error=error)
        tell("done", 1, 1)
        return Result(port, outcome)

    with ThreadPoolExecutor(len(ports)) as threads:
        work = [threads.submit(run, port) for port in ports]
        try:
            files.set_result(make())
            wait_for(work)
        except BaseException:  # a signal above all: boards are let go, and restart
            stop.set()
            files.cancel()
            raise
    return [each.result() for each in work]
