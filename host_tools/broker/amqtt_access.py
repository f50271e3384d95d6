"""Our rules as plugins of amqtt: a client is who its certificate says, and topics are as `acl` has them."""

import ssl
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from host_tools.broker.acl import Access
from host_tools.pki.names import CONSOLE, OPERATOR

_Subject: TypeAlias = tuple[tuple[tuple[str, str], ...], ...]


def common_name(connection: ssl.SSLObject | None) -> str | None:
    """The common name in the certificate that the peer proved to own, or None if there is none."""
    certificate = connection.getpeercert() if connection else None
    # ((("commonName", "n01"),),): a sequence of relative distinguished names, each of pairs.
    subject = cast("_Subject", (certificate or {}).get("subject", ()))
    return next((value for name in subject for kind, value in name if kind == "commonName"), None)


class CertificatePlugin(BaseAuthPlugin):
    """Admits a client whose client id is the name in its certificate."""

    async def authenticate(self, *, session: Session) -> bool:
        """Whether the client of `session` is who it says."""
        name = common_name(session.ssl_object)
        return name is not None and name == session.client_id


class TopicPlugin(BaseTopicPlugin):
    """Lets clients publish, subscribe and receive as the rules of `acl.Access` allow."""

    @dataclass
    class Config:
        """The fields of `acl.Access`."""

        prefix: str = "limpet"
        consoles: list[str] = field(default_factory=lambda: [CONSOLE])
        operators: list[str] = field(default_factory=lambda: [OPERATOR])

        def access(self) -> Access:
            """The rules as such."""
            return Access(self.prefix, tuple(self.consoles), tuple(self.operators))

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Whether the client of `session` may do `action` with `topic`."""
        if session is None or session.client_id is None or topic is None:
            return False
        access: Access = self.config.access()
        if action is Action.PUBLISH:
            return access.may_write(session.client_id, topic)
        return access.may_read(session.client_id, topic)
