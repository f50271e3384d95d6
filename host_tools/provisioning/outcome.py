"""How the provisioning of a board ended."""

from dataclasses import dataclass, field
from typing import Any

from host_tools import errors

CLAIMED, IN_SERVICE, ALREADY = "claimed", "in service", "already"
"""What a board is afterwards: a node that is not yet in service; one that is; one that was before."""


@dataclass
class Outcome:
    """What is known of one board, at last how it ended."""

    port: str
    location: str
    """Where it is plugged in: a USB location, or the port's name."""
    node_id: str | None = None
    mac: str | None = None
    chip: str | None = None
    state: str | None = None
    image: str | None = None
    settings: str | None = None
    key: str = "node"
    serial: str | None = None
    fingerprint: str | None = None
    expires: str | None = None
    first_publish: str | None = None
    remarks: list[str] = field(default_factory=list)
    """What should be known of it besides: a certificate that was revoked."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each step took."""
    error: str | None = None
    exit_code: int = errors.DONE

    def fail(self, error: errors.LimpetError) -> None:
        """It ended badly. The sentence begins with the port."""
        text = str(error)
        self.error = text if self.port in text else f"{self.port}: {text}"
        self.exit_code = error.exit_code

    def values(self) -> dict[str, Any]:
        """As --json has it."""
        return {
            "port": self.port,
            "location": self.location,
            "node": self.node_id,
            "mac": self.mac,
            "chip": self.chip,
            "state": self.state,
            "image": self.image,
            "settings": self.settings,
            "key": self.key,
            "serial": self.serial,
            "certificate": self.fingerprint,
            "expires": self.expires,
            "first_publish": self.first_publish,
            "remarks": self.remarks,
            "seconds": {step: round(seconds, 3) for step, seconds in self.seconds.items()},
            "error": self.error,
            "exit_code": self.exit_code,
        }
