"""Which sensor is on which pin of the board, where the way in is, and what cannot be.

The sensors may be salvaged ones (`host_tools.userfile.salvage`), of which some fields are absent: patterns
match only what is there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from host_tools.boards import Board
from host_tools.settings.model import Bme280, CurrentLoop, Ds18b20, Sensor, WayIn
from host_tools.userfile import KeyPath, Problem, describe, problem

Bus = tuple[int, int]
"""An I2C bus: the GPIOs of scl and sda."""


class Needs(Enum):
    """What a pin must be able to."""

    INPUT = "input"
    OUTPUT = "output"
    ANALOG = "analog"


@dataclass(frozen=True, slots=True)
class Claim:
    """A use of a pin."""

    sensor: str
    """Its name; "" for the way in."""
    path: KeyPath
    """The key that names the pin, or the sensor where the board's own bus is meant."""
    pin: int
    role: str
    shared_by: object
    """Claims on one pin go together when this is the same. None: not known, the sensor has problems."""
    needs: Needs = Needs.OUTPUT


def i2c_bus(sensor: Bme280, board: Board) -> Bus | None:
    """The sensor's bus, the board's where it names none; None when there is neither."""
    match sensor:
        case Bme280(scl=int(scl), sda=int(sda)):
            return scl, sda
        case Bme280(scl=None, sda=None) if board.i2c:
            return board.i2c.scl, board.i2c.sda
    return None


def wiring_problems(sensors: Mapping[str, Sensor], way_in: WayIn | None, board: Board) -> Iterator[Problem]:
    """What is wrong with the pins and buses on this board."""
    for name, sensor in sensors.items():
        if isinstance(sensor, Bme280):
            yield from _bus_problems(name, sensor, board)
    claims = _all_claims(sensors, way_in, board)
    for claim in claims:
        fault = _unfit(claim, board)
        if fault:
            yield problem(claim.path, fault)
    yield from _conflicts(claims, board)
    yield from _same_address(sensors, board)
    yield from _same_probe(sensors, board)


def wiring_warnings(sensors: Mapping[str, Sensor], way_in: WayIn | None, board: Board) -> Iterator[Problem]:
    """What works, but may keep the board from starting, or open it to nobody's wish."""
    warned = set()
    for claim in _all_claims(sensors, way_in, board):
        gpio = board.called(claim.pin)
        if claim.pin in board.features.strapping and claim.pin not in warned:
            warned.add(claim.pin)
            yield problem(
                claim.path,
                f"{gpio} chooses how the chip starts: a sensor or pull-up on it can keep the board from "
                "booting. Another pin is safer.",
            )
        if claim.needs is Needs.INPUT and claim.pin in board.features.input_only:
            yield problem(
                claim.path,
                f"{gpio} has no pull-up inside the chip, and a line that floats can look like a button that "
                "is held. See that a resistor pulls it up.",
            )


def _all_claims(sensors: Mapping[str, Sensor], way_in: WayIn | None, board: Board) -> list[Claim]:
    claims = [claim for name, sensor in sensors.items() for claim in _claims(name, sensor, board)]
    if way_in:
        claims.append(Claim("", ("way_in", "pin"), way_in.pin, "the way in", "way in", Needs.INPUT))
    return claims


def _bus_problems(name: str, sensor: Bme280, board: Board) -> Iterator[Problem]:
    path = ("sensors", name)
    match sensor:
        case Bme280(scl=None, sda=int()):
            missing = "scl"
        case Bme280(scl=int(), sda=None):
            missing = "sda"
        case Bme280(scl=None, sda=None) if not board.i2c:
            text = f"the board {describe(board.name)} has no I2C bus of its own. Write scl and sda."
            yield problem(path, text)
            return
        case _:
            return
    text = "this key is missing: scl and sda go together. Write both or none."
    yield Problem((*path, missing), text, at=path)


def _claims(name: str, sensor: Sensor, board: Board) -> Iterator[Claim]:
    path = ("sensors", name)
    if isinstance(sensor, Bme280):
        bus = i2c_bus(sensor, board)
        for index, (key, role) in enumerate((("scl", "the I2C clock"), ("sda", "the I2C data line"))):
            pin = getattr(sensor, key, None)
            if pin is not None:
                yield Claim(name, (*path, key), pin, role, bus and (key, bus))
            elif bus:
                yield Claim(name, path, bus[index], role, (key, bus))
    match sensor:
        case Ds18b20(pin=pin):
            yield Claim(name, (*path, "pin"), pin, "a 1-Wire bus", "1-Wire")
        case CurrentLoop(pin=pin):
            yield Claim(name, (*path, "pin"), pin, "a current loop", name, Needs.ANALOG)


def _unfit(claim: Claim, board: Board) -> str | None:
    """Why the board's pin cannot serve the claim."""
    chip, pin = board.features, claim.pin
    usable = board.gpios() - board.taken()
    fit = {
        Needs.ANALOG: usable & chip.adc,
        Needs.OUTPUT: usable - chip.input_only,
        # A button may be a part of the board.
        Needs.INPUT: (usable | frozenset(board.names.values()))
        - board.taken()
        - chip.flash
        - {chip.download},
    }[claim.needs]
    if pin in fit:
        return None
    remedy = f"Use one of {', '.join(map(board.label, sorted(fit)))}."
    gpio = board.called(pin)
    if pin in chip.flash:
        return f"{gpio} is wired to the flash chip. {remedy}"
    if pin in board.console_pins:
        return f"{gpio} is the serial console. {remedy}"
    if pin in chip.usb:
        return f"{gpio} is the chip's USB port, which MicroPython keeps for itself. {remedy}"
    if claim.needs is Needs.INPUT and pin == chip.download:
        return f"{gpio} held at a reset starts the chip's bootloader, and not the node. {remedy}"
    if pin in board.names.values() and pin not in board.gpios():
        return f"{gpio} is a part of the board {describe(board.name)}, and not brought out. {remedy}"
    if pin not in board.gpios():
        return f"the board {describe(board.name)} has no {gpio}. {remedy}"
    if claim.needs is not Needs.ANALOG:
        return f"{gpio} is an input only, and {claim.role} needs an output. {remedy}"
    if pin in chip.adc_without_wifi:
        return f"the ADC of {gpio} does not work while Wi-Fi is on. {remedy}"
    return f"{gpio} has no ADC. {remedy}"


def _conflicts(claims: list[Claim], board: Board) -> Iterator[Problem]:
    first: dict[int, Claim] = {}
    for claim in claims:
        other = first.setdefault(claim.pin, claim)
        if None in (claim.shared_by, other.shared_by) or claim.shared_by == other.shared_by:
            continue
        gpio = board.called(claim.pin)
        if claim.sensor == other.sensor:
            text = f"{gpio} is both {other.role} and {claim.role}. Use two pins."
        elif claim.role == other.role == "a current loop":
            text = f"{gpio} is {_named(other.sensor)} already. Use another pin."
        elif claim.role == other.role:
            text = (
                f"{gpio} is {claim.role} of {_named(other.sensor)} on another bus. "
                "Give both sensors the same scl and sda, or no pin in common."
            )
        else:
            text = f"{gpio} is already {other.role} of {_named(other.sensor)}. Use another pin."
        yield problem(claim.path, text)


def _same_address(sensors: Mapping[str, Sensor], board: Board) -> Iterator[Problem]:
    taken: dict[tuple[Bus, int], str] = {}
    for name, sensor in sensors.items():
        match sensor:
            case Bme280(address=address):
                bus = i2c_bus(sensor, board)
                other = taken.setdefault((bus, address), name) if bus else name
                if other != name:
                    yield problem(
                        ("sensors", name, "address"),
                        f"{_named(other)} has address {address:#x} on this bus already. "
                        "Use the other of 0x76 and 0x77, or another bus.",
                    )


def _same_probe(sensors: Mapping[str, Sensor], board: Board) -> Iterator[Problem]:
    on_pin: dict[int, dict[str, str | None]] = {}
    for name, sensor in sensors.items():
        match sensor:
            case Ds18b20(pin=pin, rom=rom):
                on_pin.setdefault(pin, {})[name] = rom
    for pin, probes in on_pin.items():
        first: dict[str, str] = {}
        for name, rom in probes.items():
            path = ("sensors", name, "rom")
            other = next((each for each in probes if each != name), None)
            if rom is None and other is not None:
                where = board.called(pin)
                text = f"this key is missing: {_named(other)} is on {where} too. Write the rom of each probe."
                yield Problem(path, text, at=path[:2])
            elif rom is not None and first.setdefault(rom, name) != name:
                yield problem(path, f"this probe is {_named(first[rom])} already. Name another probe.")


def _named(sensor: str) -> str:
    return f"sensor {describe(sensor)}"
