"""`limpet fleet list`, `show` and `export`: what they tell, and what stands out."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from host_tools.errors import UsageError
from host_tools.fleet import Fleet, Node, Record, expiry, export, show
from host_tools.fleet.refresh import strangers
from host_tools.telemetry.operator import Heard
from tests.host import shell
from tests.host.in_process import limpet

NOW = datetime.now(UTC)
DAYS = {"n01": 700, "n02": 30, "n03": -3}
MACS = {node_id: f"24:0a:c4:00:00:0{node_id[-1]}" for node_id in DAYS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A record of certificates that last long, 30 days, and no more; a claimed node, and one retired."""
    folder = tmp_path_factory.mktemp("project")
    with Fleet(folder / "fleet.db") as fleet:
        for number, (node_id, days) in enumerate(DAYS.items()):
            mac = MACS[node_id]
            fleet.claim(mac, node_id)
            fleet.note(mac, node_id, "key", born="node")
            fleet.in_service(
                Record(
                    node_id=node_id,
                    mac=mac,
                    location="1-1.2",
                    board="virtual",
                    image="ab" * 32,
                    serial=f"{number:040x}",
                    fingerprint=f"{number + 1}" * 64,
                    client_id=node_id,
                    first_publish="2026-11-01T10:00:00+00:00",
                    expires=(NOW + timedelta(days=days)).isoformat(),
                    settings="cd" * 32,
                )
            )
        fleet.claim("24:0a:c4:00:00:04", "n04")
        fleet.claim("24:0a:c4:00:00:05", "n05")
        fleet.retire("n05", "lost")
    yield folder


def node(folder: Path, node_id: str) -> Node:
    with Fleet(folder / "fleet.db") as fleet:
        return fleet.known(node_id)


def test_list(folder: Path) -> None:
    done = shell.limpet("fleet", "list", cwd=folder)
    assert done.code == 0
    heading, *rows = [line.split() for line in done.out.splitlines()]
    assert heading[:4] == ["node", "state", "board", "MAC"]
    day = {node_id: node(folder, node_id).expires[:10] for node_id in DAYS}
    ends = [row[-5:] if row[0] in DAYS else row for row in rows]
    assert ends[0][-4] == day["n01"]
    assert [ends[1][0], ends[1][1]] == [day["n02"], "soon"]
    assert [ends[2][0], ends[2][1]] == [day["n03"], "expired"]
    assert rows[3][:5] == ["n04", "claimed", "-", "24:0a:c4:00:00:04", "-"]
    assert rows[4][1] == "retired"
    assert done.err == (
        "Certificates of nodes in service: 1 expired, 1 will within 60d. "
        "Renew them with `limpet rotate --expiring 60d`.\n"
    )
    told = json.loads(limpet("fleet", "list", "--expires-within", "20d", "--json", cwd=folder).out)["nodes"]
    assert [each["ending"] for each in told] == [None, None, "expired", None, None]


def test_show(folder: Path) -> None:
    """The chain, link by link."""
    known = node(folder, "n02")
    done = limpet("fleet", "show", "n02", cwd=folder)
    lines = done.out.splitlines()
    assert lines[0] == "n02: in service"
    chain = dict(
        line.strip().split("  ", 1) for line in lines[1 : lines.index("journal")] if "  " in line.strip()
    )
    assert {name: text.strip() for name, text in chain.items()} == {
        "USB location": "1-1.2",
        "MAC address": MACS["n02"],
        "board": "virtual",
        "image": "ab" * 32,
        "certificate": "2" * 64,
        "serial number": f"{1:040x}",
        "expires": f"{known.expires[:16].replace('T', ' ')} UTC (soon)",
        "MQTT client id": "n02",
        "first publish": "2026-11-01 10:00 UTC",
        "in service since": known.provisioned_at[:16].replace("T", " ") + " UTC",
        "settings": "cd" * 32,
        "last seen": "2026-11-01 10:00 UTC",
    }
    steps = [line.split("  ")[3] for line in lines[lines.index("journal") + 1 :]]
    assert steps[:2] == ["claimed", "key: born node"] and steps[2].startswith("in service: location 1-1.2")
    told = json.loads(limpet("fleet", "show", "n02", "--json", cwd=folder).out)
    assert (told["fingerprint"], told["ending"]) == ("2" * 64, "soon")
    assert [entry["step"] for entry in told["journal"]] == ["claimed", "key", "in service"]


def test_export(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(limpet("fleet", "export", "--csv", cwd=folder).out)))
    told = json.loads(limpet("fleet", "export", "--json", cwd=folder).out)["nodes"]
    assert (
        [row["node_id"] for row in rows]
        == [each["node_id"] for each in told]
        == [f"n0{n}" for n in range(1, 6)]
    )
    for row, each in zip(rows, told, strict=True):
        journal = each.pop("journal")
        assert row == {name: value or "" for name, value in each.items()}
        assert journal[0]["step"] == "claimed"


def test_what_cannot_be_shown(folder: Path, tmp_path: Path) -> None:
    for more, code, sentence in (
        (
            ("list", "--fleet", str(tmp_path / "none")),
            1,
            f"There is no fleet record {tmp_path / 'none'}: name it",
        ),
        (("show", "n77"), 1, "fleet.db has no node 'n77': `limpet fleet list` shows those that it has."),
        (("export",), 2, "Choose one of the two: --csv or --json."),
    ):
        done = limpet("fleet", *more, cwd=folder)
        assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
        assert done.err.startswith(f"limpet: {sentence}")


def test_colours_and_words() -> None:
    console = Console(force_terminal=True, width=200, record=True, file=io.StringIO())
    base = Node("n01", MACS["n01"], "in service", "", expires=(NOW + timedelta(days=9)).isoformat())
    late = replace(base, node_id="n02", expires=(NOW - timedelta(days=1)).isoformat())
    gone = replace(late, node_id="n03", state="retired")
    console.print(show.table([base, late, gone], timedelta(days=60), NOW))
    first, second, third = console.export_text(styles=True).splitlines()[1:]
    assert "\x1b[33m" in first and "soon" in first
    assert "\x1b[1;31m" in second and "expired" in second
    assert "\x1b[1;31m" not in third and "expired" not in third
    assert show.standing_out([gone], timedelta(days=60), NOW) is None


def test_when_a_certificate_stands_out() -> None:
    end = (NOW + timedelta(days=60)).isoformat()
    assert expiry.word(end, timedelta(days=60), NOW) == "soon"
    assert expiry.word(end, timedelta(days=60), NOW - timedelta(seconds=1)) == ""
    assert expiry.word(end, timedelta(0), NOW + timedelta(days=60)) == "expired"
    spans = {
        "36h": timedelta(hours=36),
        "60d": timedelta(days=60),
        "8w": timedelta(weeks=8),
        "0d": timedelta(0),
    }
    assert {text: expiry.span(text) for text in spans} == spans
    assert [expiry.told_span(each) for each in spans.values()] == ["36h", "60d", "56d", "0d"]
    for text in ("60", "d", "-1d", "1.5d", "60 d", "999999d", "٣d", ""):
        with pytest.raises(UsageError, match="is no time: write hours, days or weeks"):
            expiry.span(text)


def test_who_is_a_stranger() -> None:
    nodes = [
        Node(node_id, "", state, "")
        for node_id, state in (("a", "in service"), ("b", "claimed"), ("c", "retired"))
    ]
    heard = {name: Heard(is_up=True) for name in "abcd"}
    assert strangers(nodes, heard) == {
        "b": "it is connected, and claimed",
        "c": "it is connected, and retired",
        "d": "the record does not have it",
    }
    assert strangers(nodes, {name: Heard() for name in "abcd"}) == {"d": "the record does not have it"}


def test_csv_of_a_node_that_has_little(folder: Path) -> None:
    text = export.as_csv([node(folder, "n04")])
    assert text.splitlines()[1].startswith("n04,24:0a:c4:00:00:04,claimed,20")
