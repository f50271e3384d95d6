"""The program labgrid-client, called for one place under a name of our own."""

import os
import shutil
import socket
from pathlib import Path

from host_tools.hil import program
from host_tools.hil.blocked import Blocked
from host_tools.hil.rigs import Place

VARIABLE = "LIMPET_LABGRID"
"""The path of labgrid-client, where a rig file names none and it is not on the search path."""

_PROGRAM = "labgrid-client"
_COORDINATOR = "127.0.0.1:20408"
"""Where labgrid-client looks by itself."""
_PATIENCE_S = 60.0
"""Above the 20 s after which it gives up a coordinator that does not answer."""
_NOT_OURS = ("LG_ENV", "LG_STATE", "LG_INITIAL_STATE", "LG_PLACE", "LG_TOKEN", "STATE", "PLACE")
"""What would make labgrid-client take another place than it is told, or the drivers of a configuration."""
_LOST = ("coordinator is unavailable", "coordinator became unavailable", "Could not connect to coordinator")


class Client:
    """labgrid-client for a place. Raises Blocked when there is no such program."""

    def __init__(self, place: Place, user: str) -> None:
        self.place = place.name
        self.coordinator = place.coordinator or os.environ.get("LG_COORDINATOR") or _COORDINATOR
        ours = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
        self.environment = {**ours, "LG_USERNAME": user}
        self.identity = f"{ours.get('LG_HOSTNAME', socket.gethostname())}/{user}"
        """Who we are to the coordinator."""
        self._program = _found(place)

    def words(self, *words: str) -> list[str]:
        """The command that does this with the place."""
        return [self._program, "-x", self.coordinator, "-p", self.place, *words]

    def run(self, *words: str) -> str:
        """Do it, and give what it printed. Raises Blocked with the reason when it fails."""
        done = program.ended(self.words(*words), _PATIENCE_S, self.environment)
        if done.code:
            raise Blocked(self.refusal(done, " ".join(words)))
        return done.text

    def release_command(self, who: str) -> str:
        """What a user types to take the place from somebody, `HOST/USER`."""
        return f"{_PROGRAM} -x {self.coordinator} -p {self.place} release-from {who}"

    def refusal(self, done: program.Ended, asked: str) -> str:
        """Why it failed, in one sentence."""
        if any(text in done.text for text in _LOST):
            return (
                f"The labgrid coordinator {self.coordinator} cannot be reached: see that it runs, and that "
                "this is its address (key 'coordinator' of the rig file's place, or LG_COORDINATOR)."
            )
        why = (
            done.last_line.removeprefix(f"{_PROGRAM}: ")
            .removeprefix("Server error: ")
            .removeprefix("Error: ")
        )
        return f"labgrid refused '{asked}' for the place {self.place}: {why.rstrip('.')}."


def _found(place: Place) -> str:
    named = place.client or os.environ.get(VARIABLE) or _PROGRAM
    found = shutil.which(named)
    if found is None:
        raise Blocked(
            f"The rig's place is in a labgrid lab, and there is no program '{named}': install labgrid into "
            "an environment of its own (python3 -m venv ~/labgrid; ~/labgrid/bin/pip install labgrid), and "
            f"name ~/labgrid/bin/{_PROGRAM} by 'client' in the rig file, or by {VARIABLE}."
        )
    return str(Path(found).absolute())
