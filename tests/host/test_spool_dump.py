"""`limpet spool dump`: what it shows of a flash file and of a board, and what it says when it cannot."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from host_tools import boards, image, partitions, paths
from host_tools.pki import partition as identity
from host_tools.pki.partition import Identity
from host_tools.repl import Repl
from host_tools.spool import source
from host_tools.virtual.bench import Bench
from tests.host import shell
from tests.host.in_process import limpet
from tests.host.shell import Done, refused
from tests.host.spool_vectors import SECTOR, named, partition
from tests.host.virtual_rig import Rig

BOARD = boards.load_board("virtual")
TABLE = BOARD.partition_table()
SPOOL = partitions.find(TABLE, "spool")
SECTORS = SPOOL.size // SECTOR
MAIN = b'print("main runs")\n'


def flash(spool: bytes, node_id: str | None = "n01", files: dict[str, bytes] | None = None) -> bytes:
    """A whole flash with this spool and, for its identity, a node id with nothing of worth around it."""
    who = node_id and identity.encode(Identity(node_id, b"secret-key", (b"certificate",), (b"ca",)))
    composed = bytearray(image.compose(BOARD, files or {}, who or None))
    composed[SPOOL.offset : SPOOL.offset + len(spool)] = spool
    return bytes(composed)


def with_table(composed: bytes, table: list[partitions.Partition]) -> bytes:
    at = partitions.TABLE_OFFSET
    return composed[:at] + partitions.encode(table) + composed[at + partitions.TABLE_SIZE :]


def shown(done: Done) -> list[str]:
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "flash.bin"
        path.write_bytes(data)
        return path

    return write


def test_a_flash_file(file: Callable[[bytes], Path]) -> None:
    path = file(flash(partition(named("a few readings"))))
    summary = [
        f"{path}: the spool of n01, 128 sectors of 4096 bytes",
        "  epoch    1a2b3c4d, boot 1",
        "  cursor   0: a broker has all readings below this number",
        "  waiting  4 readings, numbers 0 to 3",
        "  held     4 readings, about 30988 fit",
        "  oldest   2025-11-22T14:00:01.000Z bme280/temperature 21.30 Cel",
        "  newest   2025-11-22T14:00:02.001Z bme280/temperature -0.05 Cel",
        "  wear     0 to 1 erases a sector; flash is made for 100,000",
        "  damage   none",
    ]
    assert shown(shell.limpet("spool", "dump", path)) == summary
    assert shown(limpet("spool", "dump", path, "--all")) == [
        *summary,
        "",
        "--- cursor 0",
        "0 2025-11-22T14:00:01.000Z bme280/temperature 21.30 Cel",
        "1 2025-11-22T14:00:01.000Z bme280/pressure 100653.27 Pa",
        "2 2025-11-22T14:00:01.250Z wind/speed bad: wire break",
        "3 2025-11-22T14:00:02.001Z bme280/temperature -0.05 Cel",
    ]


def test_as_json(file: Callable[[bytes], Path]) -> None:
    path = file(flash(partition(named("full: the oldest are gone"))))
    oldest = {
        "seq": 12,
        "name": "bme280/temperature",
        "unit": "Cel",
        "value": 0.12,
        "reason": "good",
        "unix_ms": 1763820012000,
        "time": "2025-11-22T14:00:12.000Z",
        "quality": "synced",
        "later_s": 0,
        "boot": 1,
        "uptime_ms": 12000,
    }
    done = limpet("spool", "dump", path, "--json")
    found = json.loads("\n".join(shown(done)))
    newest = oldest | {
        "seq": 21,
        "value": 0.21,
        "unix_ms": 1763820021000,
        "time": "2025-11-22T14:00:21.000Z",
        "uptime_ms": 21000,
    }
    assert found == {
        "source": str(path),
        "node": "n01",
        "sectors": {"blank": 124, "prepared": 1, "live": 3, "free": 0, "damaged": 0},
        "epoch": "1a2b3c4d",
        "boot": 1,
        "cursor": 7,
        "first": 12,
        "next": 22,
        "waiting": 10,
        "held": 10,
        "capacity": 30988,
        "proof": 1763820021,
        "wear": {"min": 0, "max": 9},
        "damaged": 0,
        "gaps": [{"first": 7, "last": 11, "why": "full"}],
        "oldest": oldest,
        "newest": newest,
    }
    everything = json.loads(limpet("spool", "dump", path, "--json", "--all").out)
    readings = everything.pop("readings")
    assert everything == found
    assert [each["seq"] for each in readings] == list(range(12, 22))
    assert (readings[0], readings[-1]) == (oldest, newest)


def test_a_bad_reading_as_json_has_no_value(file: Callable[[bytes], Path]) -> None:
    path = file(partition(named("a few readings")))
    readings = json.loads(limpet("spool", "dump", path, "--json", "--all").out)["readings"]
    assert [(each["value"], each["reason"]) for each in readings] == [
        (21.3, "good"),
        (100653.27, "good"),
        (None, "wire break"),
        (-0.05, "good"),
    ]


def rows(done: Done, *names: str) -> list[str]:
    """The rows of the summary that have these names."""
    return [line.strip() for line in shown(done) if line.split()[:1] and line.split()[0] in names]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("fresh", ["readings none: this node has written nothing yet", "damage   none"]),
        (
            "all acknowledged, in the last record",
            [
                "cursor   6: a broker has all readings below this number",
                "waiting  0 readings",
                "held     6 readings, about 488 fit",
                "damage   none",
            ],
        ),
        (
            "full: the oldest are gone",
            [
                "cursor   7: a broker has all readings below this number",
                "waiting  10 readings, numbers 7 to 21",
                "held     10 readings, about 732 fit",
                "gap      7 to 11 lost, the spool was full",
                "damage   none",
            ],
        ),
        (
            "a torn record, and a boot behind it",
            [
                "cursor   0: a broker has all readings below this number",
                "waiting  4 readings, numbers 0 to 4",
                "held     4 readings, about 488 fit",
                "gap      3 lost, the flash is damaged",
                "damage   1 record skipped",
            ],
        ),
        (
            "sectors of zeros and of noise",
            [
                "cursor   0: a broker has all readings below this number",
                "waiting  3 readings, numbers 0 to 2",
                "held     3 readings, about 488 fit",
                "damage   2 sectors without a readable header",
            ],
        ),
    ],
)
def test_what_a_partition_alone_shows(case: str, expected: list[str], file: Callable[[bytes], Path]) -> None:
    path = file(partition(named(case)))
    done = limpet("spool", "dump", path)
    assert rows(done, "readings", "cursor", "waiting", "held", "gap", "damage") == expected
    assert shown(done)[0] == f"{path}: a spool, {len(named(case)['sectors'])} sectors of 4096 bytes"


def test_how_times_came_about_is_told(file: Callable[[bytes], Path]) -> None:
    case = named("a boot that never learnt the time, between two that did")
    listed = shown(limpet("spool", "dump", file(partition(case)), "--all"))
    assert listed[listed.index("--- cursor 0") + 1 :] == [
        "0 2025-11-22T14:00:10.000Z bme280/temperature 0.01 Cel",
        "1 2025-11-22T14:00:10.500Z (or up to 7190 s later) bme280/temperature 0.02 Cel",
        "2 2025-11-22T14:01:10.500Z (or up to 7130 s later) bme280/temperature 0.03 Cel",
        "3 2025-11-22T16:00:01.000Z (recovered) bme280/temperature 0.04 Cel",
        "4 2025-11-22T16:00:09.000Z bme280/temperature 0.05 Cel",
    ]


def test_another_nodes_spool(file: Callable[[bytes], Path]) -> None:
    path = file(flash(partition(named("another node's alone"))))
    done = limpet("spool", "dump", path)
    assert rows(done, "readings", "foreign", "damage") == [
        "readings none: this node has written nothing yet",
        "damage   none",
        "foreign  2 sectors of another node, which this one will erase",
    ]


def test_a_flash_without_an_identity(file: Callable[[bytes], Path]) -> None:
    path = file(flash(partition(named("another node's alone")), node_id=None))
    done = limpet("spool", "dump", path)
    assert shown(done)[0] == f"{path}: a spool, 128 sectors of 4096 bytes"
    assert rows(done, "held", "foreign") == ["held     4 readings, about 30988 fit"]


def test_nothing_of_the_identity_but_its_name_is_shown(file: Callable[[bytes], Path]) -> None:
    path = file(flash(partition(named("a few readings"))))
    for options in ([], ["--json"], ["--all"]):
        done = limpet("spool", "dump", path, *options)
        assert "secret-key" not in done.out + done.err
        assert b"secret-key".hex() not in done.out + done.err


# Files that do not do


def test_files_that_are_no_spool(tmp_path: Path) -> None:
    whole = flash(partition(named("a few readings")))
    alone = partition(named("a few readings"))
    without = [each for each in TABLE if each.name != "spool"]
    small = [replace(each, size=0x2000) if each.name == "spool" else each for each in TABLE]
    again = "read it again in full."
    neither = (
        "is neither a flash image (no partition table at 0x8000) nor one of a spool partition (no sector "
        "begins with LPSP): name one of these."
    )
    cases: dict[str, tuple[bytes, str]] = {
        "empty": (b"", " is empty: name a flash image, or one of the spool partition."),
        "text": (b"hello\n", f" {neither}"),
        "zeros": (bytes(0x400000), f" {neither}"),
        "cut": (
            alone[:-100],
            f" is cut short. A spool has whole sectors of 4096 bytes, and this one has 16284 bytes: {again}",
        ),
        "two": (
            alone[: 2 * SECTOR],
            f" is cut short. A spool has 3 sectors or more, and this one has 2: {again}",
        ),
        "half": (
            whole[: SPOOL.offset + 0x1234],
            f" ends at 0x205234, but its partition 'spool' at 0x284000: it is cut short; {again}",
        ),
        "none": (
            with_table(whole, without),
            ": There is no partition 'spool' in the table: it has nvs, phy_init, factory, identity, vfs. "
            "Flash an image made for this board.",
        ),
        "small": (
            with_table(whole, small),
            ": the partition 'spool' has 0x2000 bytes, and a spool needs 3 sectors of 0x1000: flash an image "
            "with a larger one.",
        ),
        "table": (
            whole[:0x8004] + b"\7" + whole[0x8005:],
            ": The partition table is damaged: its MD5 checksum does not fit its entries. "
            "Flash a whole image.",
        ),
        "end": (
            whole[:0x8100],
            ": The partition table is cut short: 256 bytes instead of 3072. Read or compose the image again.",
        ),
    }
    for name, (data, sentence) in cases.items():
        (tmp_path / name).write_bytes(data)
        refused(limpet("spool", "dump", name, cwd=tmp_path), f"{name}{sentence}")


def test_names_that_are_no_file(tmp_path: Path) -> None:
    no_file = "There is no file or serial port 'none': name a flash image, or plug the board in."
    refused(limpet("spool", "dump", "none", cwd=tmp_path), no_file)
    folder = ". is a folder: name a flash image in it, or a board's port."
    refused(limpet("spool", "dump", ".", cwd=tmp_path), folder)
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "/dev/null"):
        refused(
            limpet("spool", "dump", name, cwd=tmp_path),
            f"{name} cannot be opened: it is no serial port; name the board's.",
            code=3,
        )


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as large:
        large.truncate(64 * 1024 * 1024 + 1)
    sentence = "large has more than 64 MiB, so it is no ESP32's flash: name a flash image."
    refused(limpet("spool", "dump", "large", cwd=tmp_path), sentence)


# A board


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


def test_a_board_shows_what_its_flash_holds_and_runs_on(bench: Bench, tmp_path: Path) -> None:
    case = partition(named("wrap-around, the cursor in the second sector"))
    modules = {
        name: (paths.FIRMWARE / name).read_bytes() for name in ("limpet/__init__.py", "limpet/identity.py")
    }
    composed = flash(case, files={"main.py": MAIN, **modules})
    rig = Rig(bench, tmp_path / "flash.bin", composed)
    rig.says("main runs")
    on_port = limpet("spool", "dump", rig.port, "--all")
    rig.says("main runs", times=2)
    assert (on_port.code, on_port.err) == (0, f"{rig.port}: 128 sectors, 3 of them in use; reading those\n")
    assert rig.flash.read_bytes()[: BOARD.flash_size] == composed, "the flash is as it was"
    alone = tmp_path / "alone.bin"
    alone.write_bytes(composed)
    on_file = limpet("spool", "dump", alone, "--all")
    assert on_port.out.replace(rig.port, str(alone)) == on_file.out
    assert "the spool of n01" in on_port.out and len(on_port.out.splitlines()) > 480


def test_a_board_with_rot_and_other_peoples_sectors(bench: Bench, tmp_path: Path) -> None:
    rotten = partition(named("sectors of zeros and of noise")) + partition(named("another node's alone"))
    composed = flash(rotten, node_id=None)
    rig = Rig(bench, tmp_path / "flash.bin", composed)
    on_port = limpet("spool", "dump", rig.port, "--json", "--all")
    assert on_port.code == 0
    alone = tmp_path / "alone.bin"
    alone.write_bytes(composed)
    on_file = json.loads(limpet("spool", "dump", alone, "--json", "--all").out)
    assert json.loads(on_port.out) == on_file | {"source": rig.port}
    assert on_file["sectors"] == {"blank": 123, "prepared": 0, "live": 2, "free": 1, "damaged": 2}


def test_a_board_without_a_spool(bench: Bench, tmp_path: Path) -> None:
    table = [each for each in TABLE if each.name != "spool"]
    rig = Rig(bench, tmp_path / "flash.bin", with_table(flash(b"", files={"main.py": MAIN}), table))
    rig.says("main runs")
    refused(
        limpet("spool", "dump", rig.port),
        f"{rig.port}: the board's partition table has no 'spool': flash an image made for this board.",
    )
    rig.says("main runs", times=2)


class Noisy:
    """A board's REPL whose line turns over a bit of the first answers to each question."""

    def __init__(self, repl: Repl, bad: int) -> None:
        self._repl = repl
        self._bad = bad
        self._asked: dict[str, int] = {}

    def run(self, code: str) -> str:
        self._asked[code] = self._asked.get(code, 0) + 1
        answer = self._repl.run(code)
        if not code.startswith(("sector", "headers")) or self._asked[code] > self._bad:
            return answer
        middle = len(answer) // 2
        return answer[:middle] + ("A" if answer[middle] != "A" else "B") + answer[middle + 1 :]


def test_a_noisy_line_is_asked_again_and_then_given_up(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = partition(named("a few readings"), SECTORS)
    rig = Rig(bench, tmp_path / "flash.bin", flash(case, files={"main.py": MAIN}))
    rig.says("main runs")

    def with_noise(bad: int) -> None:
        class NoisyRepl(Repl):
            def __enter__(self) -> Any:
                return cast(Any, Noisy(super().__enter__(), bad))

        monkeypatch.setattr(source, "Repl", NoisyRepl)

    with_noise(2)
    assert source.read(rig.port, lambda text: None).partition == case
    rig.says("main runs", times=2)
    with_noise(3)
    with pytest.raises(source.SourceError) as caught:
        source.read(rig.port, lambda text: None)
    sentence = f"{rig.port}: what the board sends arrives damaged; see to its cable, and try again."
    assert str(caught.value) == sentence
