"""Who may write and read which topics: one set of rules for every broker that we run."""

import re
from dataclasses import dataclass

from host_tools.errors import LimpetError
from host_tools.pki.names import CONSOLE, OPERATOR

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


@dataclass(frozen=True)
class Access:
    """The rules below one topic prefix. A client is known by the common name of its certificate.

    A node writes `<prefix>/<its name>/#` and reads `<prefix>/<its name>/cmd/#`. A console reads `<prefix>/#`
    and writes nothing. An operator reads that too, and writes `<prefix>/<any name>/cmd/<id>`. Everything else
    is refused. Raises LimpetError if a name or the prefix is not usable.
    """

    prefix: str = "limpet"
    consoles: tuple[str, ...] = (CONSOLE,)
    operators: tuple[str, ...] = (OPERATOR,)

    def __post_init__(self) -> None:
        if len(self.prefix) > 64 or not _PREFIX.fullmatch(self.prefix):
            raise LimpetError(
                f"The topic prefix {self.prefix!r} is not valid: use up to 64 letters, digits, '.', '_' "
                "and '-', with '/' between levels."
            )
        for kind, names in (("console", self.consoles), ("operator", self.operators)):
            for name in names:
                if not _USER.fullmatch(name):
                    raise LimpetError(
                        f"The {kind} name {name!r} is not the name of a certificate of that kind."
                    )

    def may_write(self, user: str, topic: str) -> bool:
        """Whether the client named `user` may publish to `topic`, a last will included."""
        if user in self.operators:
            return self._is_command(topic)
        return user not in self.consoles and _within(topic, f"{self.prefix}/{user}")

    def may_read(self, user: str, topic: str) -> bool:
        """Whether the client named `user` may receive `topic`, or subscribe to it if it is a filter."""
        if user in self.consoles or user in self.operators:
            return _within(topic, self.prefix)
        return _within(topic, f"{self.prefix}/{user}/cmd")

    def _is_command(self, topic: str) -> bool:
        root, _, rest = topic.partition(self.prefix + "/")
        levels = rest.split("/")
        return root == "" and len(levels) == 3 and levels[1] == "cmd" and levels[0] not in self.operators


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
    for operator in access.operators:
        lines += ["", f"user {operator}", f"topic read {access.prefix}/#"]
        lines += [f"topic write {access.prefix}/+/cmd/+", f"topic deny {access.prefix}/{operator}/#"]
    return "\n".join(lines) + "\n"
