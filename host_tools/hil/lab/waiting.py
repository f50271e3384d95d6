"""Until a reservation has got its place, and for whom it waits till then."""

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

from host_tools.hil.blocked import Blocked
from host_tools.hil.lab.client import Client
from host_tools.hil.lab.shown import Shown, owner_of, parse_show
from host_tools.hil.program import Ended

_SOON_S = 3.0
"""Within so many seconds a place that is free is ours; after them it is worth asking who has it."""
_LOOK_S = 10.0
_OF_A_RUN = re.compile(r"-limpet-(\d+)-[0-9a-f]{4}$")


def user_of_run(user: str, pid: int, random: str) -> str:
    """What a run calls itself to labgrid; `random` is four hexadecimal digits."""
    return f"{user}-limpet-{pid}-{random}"


def wait(client: Client, token: str, on_wait: Callable[[str], object], wait_s: float) -> None:
    """Wait until the place is the reservation's. `on_wait` gets a sentence whenever it is somebody else's.

    Raises Blocked when it does not become so within `wait_s` seconds.
    """
    end = time.monotonic() + wait_s
    told = ""
    with _asking(client, token) as asking:
        while not _ended(asking, _LOOK_S if told else _SOON_S):
            why = _waiting(client, token)
            if time.monotonic() >= end:
                why = why or f"The place {client.place} is free, and yet not given to us."
                raise Blocked(f"{why} We have waited {wait_s:g} s.")
            if why not in ("", told):
                on_wait(why)
                told = why


def waits_for(
    shown: Shown, owner: str | None, here: str, is_alive: Callable[[int], bool], release: str
) -> str:
    """Whom we wait for, in one sentence; empty if it is nobody.

    `owner` is whose reservation the place is kept for, if it is not ours. `is_alive` knows the processes of
    this machine, `here`; `release` is the command that takes the place from its holder.
    """
    if not shown.acquired:
        return f"The place {shown.name} is reserved for {_who(owner)}." if owner else ""
    sentence = f"The place {shown.name} is held by {_who(shown.acquired)} since {shown.changed}."
    run = _OF_A_RUN.search(shown.acquired)
    if run and shown.acquired.partition("/")[0] == here and not is_alive(int(run[1])):
        sentence += (
            f" Process {run[1]} is gone from here, so that run is dead: give its place back by '{release}'."
        )
    return sentence


@contextlib.contextmanager
def _asking(client: Client, token: str) -> Iterator[subprocess.Popen[bytes]]:
    """A labgrid-client that ends when the place is the reservation's; until then the coordinator keeps that.

    Raises Blocked when it has failed.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            client.words("wait", token),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=client.environment,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            said.seek(0)
            text = said.read().decode(errors="replace")
            raise Blocked(client.refusal(Ended("labgrid-client", process.returncode, text), "wait"))


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _waiting(client: Client, token: str) -> str:
    shown = parse_show(client.run("show"))
    other = shown.reservation if shown.reservation != token else None
    owner = owner_of(other, client.run("reservations")) if other else None
    here = client.identity.partition("/")[0]
    release = client.release_command(shown.acquired or "")
    return waits_for(shown, owner, here, _is_alive, release)


def _who(name: str) -> str:
    host, _, user = name.partition("/")
    return f"{user} on {host}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True
