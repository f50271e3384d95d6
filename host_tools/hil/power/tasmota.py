"""Power by an outlet or relay with Tasmota, through its MQTT broker, over mutual TLS.

It takes `cmnd/<topic>/POWER` with ON or OFF, and answers on `stat/<topic>/RESULT` and `stat/<topic>/POWER`,
also when nothing changed. With several relays they are POWER1, POWER2 …, and POWER is the first of them.
`tele/<topic>/LWT` says whether it is there: its last will is Offline (Tasmota's documentation, "MQTT").
"""

import secrets
import time

from host_tools.hil.blocked import Blocked
from host_tools.hil.rigs.power import TasmotaPower
from host_tools.telemetry.subscriber import Message, Subscriber, SubscriberError, TlsFiles

_ANSWERS_S = 10.0
_GLANCE_S = 0.5


class Tasmota:
    """One relay of one device. `seconds` is how long its answer is waited for."""

    def __init__(self, spec: TasmotaPower, seconds: float = _ANSWERS_S) -> None:
        self._spec = spec
        self._seconds = seconds
        self._named = f"The Tasmota device '{spec.topic}'"
        first, numbered = f"stat/{spec.topic}/POWER", f"stat/{spec.topic}/POWER{spec.relay}"
        self._command = f"cmnd/{spec.topic}/POWER{spec.relay if spec.relay > 1 else ''}"
        self._answers = (first, numbered) if spec.relay == 1 else (numbered,)
        self._will = f"tele/{spec.topic}/LWT"

    def on(self) -> None:
        self._switch("ON")

    def off(self) -> None:
        self._switch("OFF")

    def _switch(self, to: str) -> None:
        spec = self._spec
        device = Subscriber(
            spec.host,
            spec.port,
            TlsFiles(spec.ca, spec.certificate, spec.key),
            client_id=f"limpet-{secrets.token_hex(4)}",
            topics=(f"stat/{spec.topic}/+", self._will),
        )
        try:
            with device:
                if not device.publish(self._command, to.encode(), self._seconds):
                    raise Blocked(f"The broker at {spec.host}:{spec.port} does not take '{self._command}'.")
                self._confirm(device, to)
        except SubscriberError as error:
            raise Blocked(f"{self._named} cannot be reached: {error}") from None

    def _confirm(self, device: Subscriber, to: str) -> None:
        """Wait until the device says so itself. What the broker has kept from earlier is no answer."""
        end = time.monotonic() + self._seconds
        stays = ""
        while time.monotonic() < end:
            event = device.next_event(_GLANCE_S)
            if not isinstance(event, Message):
                continue
            said = event.payload.decode(errors="replace")
            if event.topic == self._will and said == "Offline":
                raise Blocked(f"{self._named} is not at its broker: see to its power and its Wi-Fi.")
            if event.topic in self._answers and not event.retained:
                if said == to:
                    return
                stays = said
        if stays:
            raise Blocked(f"{self._named} says {stays!r} where it was told {to}: see what else switches it.")
        raise Blocked(
            f"{self._named} does not answer within {self._seconds:g} s: see that topic and relay are right."
        )
