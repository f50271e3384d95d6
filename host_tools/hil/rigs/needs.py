"""What a rig can do, and what a test may need: the words, and what they mean.

| word | meaning |
| --- | --- |
| `power` | the supply can be cut |
| `power:flash` | … at a chosen operation of the flash |
| `reset` | the port's lines, or the emulator, reset the chip |
| `download` | the port's lines bring the chip into its ROM's bootloader |
| `network` | the node reaches this machine |
| `wifi` | its access point can go, or change its password |
| `dns` | the name server that it asks is ours |
| `sensor:KIND` | such a sensor is wired to it |
| `fault:KIND` | … and can be broken |
| `stimulus:QUANTITY`, `stimulus:CHANNEL` | what is measured can be set |
| `reference:QUANTITY`, `reference:CHANNEL` | what is measured is known otherwise too |
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence

from host_tools.errors import UsageError
from host_tools.hil.rigs.channels import BME280, DS18B20
from host_tools.hil.rigs.model import RigFile
from host_tools.hil.rigs.power import NoPower
from host_tools.hil.rigs.stimulus import ReferenceStimulus
from host_tools.settings.model import KINDS
from host_tools.userfile import did_you_mean

_PLAIN = ("power", "power:flash", "reset", "download", "network", "wifi", "dns")
_OF_SENSORS = ("sensor", "fault")
_OF_QUANTITIES = ("stimulus", "reference")
_FAMILIES = (*_OF_SENSORS, *_OF_QUANTITIES)
_USUAL = tuple(dict.fromkeys((*BME280, *DS18B20)))
# Quantities are the user's own words, so that only a very near one is a slip.
_VERY_NEAR = 0.8


class UnknownCapability(UsageError):
    """A test needs what no rig ever has."""


def capabilities(rig: RigFile) -> frozenset[str]:
    """All that a test may `need` of this rig."""
    return frozenset(_derived(rig)) | rig.capabilities


def missing(needs: Iterable[str], rig: RigFile) -> list[str]:
    """What the rig lacks of what a test needs, each once, in the test's order."""
    has = capabilities(rig)
    return [need for need in dict.fromkeys(needs) if need not in has]


def is_built_in(word: str) -> bool:
    """Whether the word has a meaning of limpet's, so that no file declares it."""
    return word in _PLAIN or word in _FAMILIES or word.partition(":")[0] in (*_FAMILIES, "power")


def check_needs(needs: Iterable[str], rigs: Sequence[RigFile]) -> None:
    """See that each word could be true of some rig. `rigs` are all that there are, not only those of a run:
    a word of the user's own is known when one of them declares it.

    Raises UnknownCapability with the nearest word.
    """
    words = _known_words(rigs)
    for need in needs:
        if need in words:
            continue
        family, _, rest = need.partition(":")
        if family in _OF_QUANTITIES and rest and not _slip(need, words):
            continue
        raise UnknownCapability(f"No rig has the capability '{need}'. {_remedy(need, words)}")


def _known_words(rigs: Sequence[RigFile]) -> frozenset[str]:
    words = {*_PLAIN}
    words |= {f"{family}:{kind}" for family in _OF_SENSORS for kind in KINDS}
    words |= {f"{family}:{leaf}" for family in _OF_QUANTITIES for leaf in _USUAL}
    for rig in rigs:
        words |= rig.capabilities
        for channel in rig.channels:
            words |= {word for family in _OF_QUANTITIES for word in _names(family, channel)}
    return frozenset(words)


def _remedy(need: str, words: frozenset[str]) -> str:
    near = did_you_mean(need, sorted(words))
    if near.startswith("Did"):
        return near
    return (
        f"Known are: {', '.join(_PLAIN)}; sensor:KIND, fault:KIND; stimulus:QUANTITY, reference:QUANTITY; "
        "and what a rig file declares in its capabilities."
    )


def _slip(need: str, words: Iterable[str]) -> bool:
    return bool(difflib.get_close_matches(need, words, n=1, cutoff=_VERY_NEAR))


def _names(family: str, channel: str) -> tuple[str, str]:
    return f"{family}:{channel}", f"{family}:{channel.partition('/')[2]}"


def _derived(rig: RigFile) -> Iterator[str]:
    if rig.rung == "virtual":
        yield from _PLAIN
        for sensor in rig.sensors.values():
            yield f"fault:{sensor.kind}"
    else:
        if not isinstance(rig.power, NoPower):
            yield "power"
        if rig.wifi:
            yield "network"
        if rig.rung == "emulator":
            yield "reset"
        elif rig.port is None or rig.port.has_lines:
            yield from ("reset", "download")
    for sensor in rig.sensors.values():
        yield f"sensor:{sensor.kind}"
    for channel, spec in rig.stimulus.items():
        yield from _names("reference", channel)
        if not isinstance(spec, ReferenceStimulus):
            yield from _names("stimulus", channel)
