"""boot.py: whether it locks the serial port, and the way in; on real littlefs, with cuts of the power."""

import errno
import json
import os
import sys

import vfs
from _flash import PowerCut
from flash import Nor
from limpet.forget import forget
from marks import security

FIRMWARE = next(folder for folder in sys.path if folder.endswith("firmware") and "tests" not in folder)
SOURCE = open(FIRMWARE + "/boot.py").read()
PASSWORD = "not to be found again"
BUTTON = {"pin": 5, "hold_ms": 1000}
IDENTITY = b"LPID" + bytes(range(1, 200))
ROOT = "/boot-test"
SECTORS = 16


class Reset(BaseException):
    """The chip was reset."""


class Files(Nor):
    """A NOR flash that littlefs mounts: it asks for more."""

    def ioctl(self, op, arg):
        return Nor.ioctl(self, op, arg) if op in (4, 5, 6) else 0

    def copy(self):
        return Files(self.sectors, self.data)


class Chip:
    """The modules that boot.py finds. `low` says whether the button's line is low, by the milliseconds."""

    def __init__(self, settings=None, identity=IDENTITY, low=None, flash=None):
        self.files = Files(SECTORS)
        self.identity = Nor(4)
        if identity:
            for slot in identity if isinstance(identity, dict) else {0: identity}:
                self.identity.writeblocks(slot * 2, IDENTITY, 0)
        self.low = low or (lambda ms: False)
        self.ms = 0
        self.slept = []
        self.interrupts = []
        self.said = []
        self.has_partition = True
        self.read_fails = None
        vfs.VfsLfs2.mkfs(self.files, progsize=32, readsize=32, lookahead=32)
        if settings is not None:
            self.write(settings)

    def write(self, settings):
        with self, open(ROOT + "/limpet.json", "w") as f:
            f.write(settings)

    def __enter__(self):
        vfs.mount(vfs.VfsLfs2(self.files, progsize=32, readsize=32, lookahead=32), ROOT)
        return self

    def __exit__(self, *_):
        vfs.umount(ROOT)

    def reboot(self):
        """The same chip after a power cut, with its button let go."""
        other = Chip(identity=None)
        other.files, other.identity = self.files.copy(), self.identity.copy()
        return other

    def start(self):
        """Run boot.py: "open", or "locked" (then the node has run, and the chip was reset)."""
        fakes = {
            "micropython": Module(const=lambda x: x, kbd_intr=self.interrupts.append),
            "esp32": Module(Partition=Module(TYPE_DATA=1, find=self._find)),
            "machine": Module(Pin=Pin(self), reset=self._reset),
            "main": Module(),
            "os": Module(remove=lambda path: os.remove(ROOT + path)),
            "time": Module(
                sleep=self.slept.append,
                sleep_ms=self._sleep_ms,
                ticks_ms=lambda: self.ms,
                ticks_diff=lambda a, b: a - b,
            ),
        }
        kept = {name: sys.modules.get(name) for name in fakes}
        sys.modules.update(fakes)
        scope = {"__name__": "__main__", "open": self._open, "print": lambda *what: self.said.append(what)}
        try:
            with self:
                exec(SOURCE, scope)
                known = {"__name__", "open", "print", "micropython", "gc", "_", "locked"}
                assert set(scope) <= known, scope  # nothing that holds settings, or heap
                assert self.interrupts == [-1, 3]
                return "open"
        except Reset:
            assert self.interrupts == [-1]
            return "wiped" if not self.slept else "locked"
        finally:
            forget(("way_in",))
            for name, module in kept.items():
                if module is None:
                    sys.modules.pop(name, None)
                else:
                    sys.modules[name] = module

    def has_secret(self):
        return PASSWORD.encode() in self.files.data

    def has_settings(self):
        with self:
            return "limpet.json" in os.listdir(ROOT)

    def _open(self, path):
        assert path == "/limpet.json"
        if self.read_fails:
            raise OSError(self.read_fails)
        return open(ROOT + path)

    def _find(self, kind, label):
        parts = {"identity": self.identity, "vfs": self.files}
        return [parts[label]] if self.has_partition else []

    def _reset(self):
        raise Reset

    def _sleep_ms(self, ms):
        self.ms += ms


class Module:
    def __init__(self, **names):
        for name, value in names.items():
            setattr(self, name, value)


class Pin:
    IN = 1
    PULL_UP = 2

    def __init__(self, chip):
        self._chip = chip

    def __call__(self, pin, mode, pull):
        assert (pin, mode, pull) == (BUTTON["pin"], self.IN, self.PULL_UP)
        return self

    def value(self):
        return 0 if self._chip.low(self._chip.ms) else 1


def settings(**changes):
    known = {"v": 1, "board": "virtual", "wifi": [{"ssid": "plant", "password": PASSWORD}], "x": "y" * 300}
    known.update(changes)
    # As the host writes them: MicroPython's dump has no order.
    rest = ['"%s":%s' % (key, json.dumps(known[key])) for key in known if key != "v"]
    return "{" + ",".join(['"v":1'] + rest) + "}"


def production(**changes):
    return settings(profile="production", way_in=BUTTON, **changes)


def test_without_settings_the_port_is_open():
    assert Chip().start() == "open"
    assert Chip(identity=None).start() == "open"


def test_settings_for_development_leave_it_open():
    assert Chip(settings()).start() == "open"
    assert Chip(settings(profile="development")).start() == "open"


@security(11, "IEC 62443-4-2 EDR 2.13", "ETSI EN 303 645 5.6-4")
def test_production_locks_it_with_or_without_an_identity():
    """Settings of the production profile lock the serial port, also on a node without an identity."""
    for identity in (None, IDENTITY):
        chip = Chip(production(), identity)
        assert chip.start() == "locked"
        assert chip.slept == [10]
    assert Chip(settings(profile="production")).start() == "locked"


def test_a_profile_that_nobody_knows_locks():
    assert Chip(settings(profile="Production")).start() == "locked"
    assert Chip(settings(profile=None)).start() == "locked"


@security(11, "IEC 62443-4-2 EDR 2.13", "ETSI EN 303 645 5.6-4")
def test_damaged_settings_lock_a_node_with_an_identity_and_no_other():
    """Damaged settings lock a node that has an identity to protect, and leave one without open."""
    whole = production()
    damaged = [whole[:-1], "", "\x00" * len(whole), "[]", "5", "null", '{"v":1', whole.replace('"v"', "\x80")]
    for text in damaged:
        assert Chip(text).start() == "locked", text
        assert Chip(text, identity={1: IDENTITY}).start() == "locked", text
        assert Chip(text, identity=None).start() == "open", text


def test_settings_that_flash_does_not_give_lock_as_damaged_ones():
    for identity, expected in ((IDENTITY, "locked"), (None, "open")):
        chip = Chip(settings(), identity)
        chip.read_fails = errno.EIO
        assert chip.start() == expected


def test_when_even_the_identity_cannot_be_read_it_is_locked():
    chip = Chip("{", None)
    chip.identity.refuses = lambda kind, sector, offset: kind == "read"
    assert chip.start() == "locked"


def test_a_board_without_an_identity_partition_has_nothing_to_lock():
    chip = Chip("{")
    chip.has_partition = False
    assert chip.start() == "open"


def test_a_way_in_that_is_nonsense_is_none():
    for nonsense in ({}, {"pin": 5}, {"hold_ms": 5}, [1], 7, "x"):
        assert Chip(settings(profile="production", way_in=nonsense)).start() == "locked"
    assert Chip(settings(profile="production", way_in={"pin": "x", "hold_ms": 1000})).start() == "locked"


def held(from_ms, until_ms):
    return lambda ms: from_ms <= ms < until_ms


@security(11, "IEC 62443-4-2 EDR 2.13", "ETSI EN 303 645 5.4-1")
def test_the_button_wipes_first_and_then_opens():
    """The declared button erases identity and settings, Wi-Fi password included, before the port opens."""
    for until in (1050, 5000, 30900):
        chip = Chip(production(), low=held(0, until))
        assert chip.has_secret()
        assert chip.start() == "wiped"
        assert bytes(chip.identity.data) == b"\xff" * len(chip.identity.data)
        assert not chip.has_settings() and not chip.has_secret()
        assert chip.reboot().start() == "open"


def test_an_older_version_of_the_settings_is_wiped_too():
    chip = Chip(settings(), low=held(0, 2000))
    for n in range(3):
        with chip:
            with open(ROOT + "/new", "w") as f:
                f.write(production(n=n))
            os.rename(ROOT + "/new", ROOT + "/limpet.json")
    assert bytes(chip.files.data).count(PASSWORD.encode()) > 1
    assert chip.start() == "wiped"
    assert not chip.has_secret()


def test_other_files_survive_the_way_in():
    chip = Chip(production(), low=held(0, 2000))
    data = bytes(range(256)) * 40
    with chip, open(ROOT + "/other.bin", "wb") as f:
        f.write(data)
    assert chip.start() == "wiped"
    with chip:
        assert open(ROOT + "/other.bin", "rb").read() == data


def test_a_button_that_is_not_held_to_the_end_does_nothing():
    for low in (held(0, 1), held(0, 990), held(500, 9000), held(0, 0)):
        chip = Chip(production(), low=low)
        before = bytes(chip.identity.data), bytes(chip.files.data)
        assert chip.start() == "locked"
        assert (bytes(chip.identity.data), bytes(chip.files.data)) == before


def test_a_line_that_stays_low_is_a_fault_and_wipes_nothing():
    chip = Chip(production(), low=lambda ms: True)
    assert chip.start() == "locked"
    assert 31000 <= chip.ms <= 32000, chip.ms  # it does not wait for ever
    assert chip.identity.erases == 0
    assert chip.has_settings()


def test_an_open_node_does_not_look_at_the_button():
    chip = Chip(settings(way_in=BUTTON), low=lambda ms: True)
    assert chip.start() == "open"
    assert chip.ms == 0


def test_flash_that_cannot_be_erased_keeps_the_port_locked():
    for kind in ("erase", "read"):
        chip = Chip(production(), low=held(0, 2000))
        chip.identity.refuses = lambda each, sector, offset, kind=kind: each == kind
        assert chip.start() == "locked"
        assert chip.has_settings()
    chip = Chip(production(), low=held(0, 2000))
    chip.identity.ioctl = lambda op, arg: 4 if op == 4 else 0  # it says it did, and did not
    assert chip.start() == "locked"


@security(7, "IEC 62443-4-2 CR 4.2", "ETSI EN 303 645 5.4-1")
def test_wherever_the_power_fails_nothing_is_behind_an_open_port():
    """Whenever the power fails during the way in, the port stays locked or there is no identity behind it."""
    whole = Chip(production(), low=held(0, 2000))
    assert whole.start() == "wiped"
    outcomes = []
    for part, operations in (("identity", whole.identity.operations), ("files", whole.files.operations)):
        for number in range(1, operations + 1):
            for how in ("before", "torn", "after"):
                chip = Chip(production(), low=held(0, 2000))
                getattr(chip, part).power_on((number, how, number))
                try:
                    chip.start()
                    continue  # this operation was the test's own
                except PowerCut:
                    pass
                again = chip.reboot()
                outcome = again.start()
                outcomes.append(outcome)
                if outcome == "open":
                    assert bytes(again.identity.data) == b"\xff" * len(again.identity.data), (
                        part,
                        number,
                        how,
                    )
                    assert not again.has_secret(), (part, number, how)
                else:
                    again.low = held(0, 2000)
                    again.ms, again.slept, again.interrupts = 0, [], []
                    assert again.start() == "wiped", (part, number, how)
    assert outcomes.count("open") >= 3 and outcomes.count("locked") >= 12
