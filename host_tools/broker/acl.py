"""Who may write and read which topics: one set of rules for every broker that we run."""

import re
from dataclasses import dataclass

from host_tools.errors import LimpetError
from host_tools.pki.names import CONSOLE

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


@dataclass(frozen=True)
class Access:
    """The rules below one topic prefix. A client is known by the common name of its certificate.

    A node writes `<prefix>/<its name>/#` and reads `<prefix>/<its name>/cmd/#`. A console reads `<prefix>/#`
    and writes nothing. Everything else is refused. Raises LimpetError if a name or the prefix is not usable.
    """

    prefix: str = "limpet"
    consoles: tuple[str, ...] = (CONSOLE,)

    def __post_init__(self) -> None:
        if len(self.prefix) > 64 or not _PREFIX.fullmatch(self.prefix):
            raise LimpetError(
                f"The topic prefix {self.prefix!r} is not valid: use up to 64 letters, digits, '.', '_' "
                "and '-', with '/' between levels."
            )
        for console in self.consoles:
            if not _USER.fullmatch(console):
                raise LimpetError(f"The console name {console!r} is not the name of a console's certificate.")

    def may_write(self, user: str, topic: str) -> bool:
        """Whether the client named `user` may publish to `topic`, a last will included."""
        return user not in self.consoles and _within(topic, f"{self.prefix}/{user}")

    def may_read(self, user: str, topic: str) -> bool:
        """Whether the client named `user` may receive `topic`, or subscribe to it if it is a filter."""
        if user in self.consoles:
            return _within(topic, self.prefix)
        return _within(topic, f"{self.prefix}/{user}/cmd")


def _within(topic: str, root: str) -> bool:
    # As the filter `root/#` matches: the root itself counts (MQTT 3.1.1 §4.7.1.2).
    return topic == root or topic.startswith(root + "/")


def mosquitto_acl(access: Access) -> str:
    """The rules as the text of a Mosquitto ACL file (mosquitto.conf(5), acl_file)."""
    lines = ["# A node: its own topics to write, its own commands to read. %u is its certificate's name."]
    lines += [f"pattern write {access.prefix}/%u/#", f"pattern read {access.prefix}/%u/cmd/#"]
    for console in access.consoles:
        lines += ["", f"user {console}", f"topic read {access.prefix}/#"]
        # Patterns hold for consoles too; this takes back what they would give.
        lines += [f"topic deny {access.prefix}/{console}/#"]
    return "\n".join(lines) + "\n"
