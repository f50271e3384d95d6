"""`limpet provision` as a user runs it: its words, its refusals, and the watch."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.fleet import Fleet
from tests.host.provisioning import Site
from tests.host.shell import DEADLINE, LIMPET, environment, limpet, refused
from tests.host.stand import wait_until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Name the boards' ports by --port, or take them all by --all: one of the two."),
        (("--watch", "--all"), "--watch takes whatever comes, with ids by --ids: leave --all, --id and "
         "--replace out."),
        (("--port", "p", "--id", "a", "--ids", "b{n}"), "Name the node by --id, by --ids or by --replace: "
         "one of the three."),
        (("--image-dir", "d"), "--image-dir goes with --key host, --ids and --count: it touches no board."),
        (("--port", "p", "--count", "2"), "--count says how many images --image-dir writes: leave it out for "
         "boards."),
        (("--port", "p", "--ids", "line3"), "'line3' makes no node ids: write one place for the number, {n} "
         "or {n:03}, among letters, digits and '-', such as line3-{n:03}."),
    ],
)  # fmt: skip
def test_words_that_cannot_be_carried_out(words: tuple[str, ...], sentence: str) -> None:
    refused(limpet("provision", "--node", "node.toml", *words), sentence, code=2)


def test_a_passphrase_that_is_wrong(site: Site) -> None:
    """No board is touched."""
    rig = site.board()
    boots = rig.board.boots
    done = site.limpet(*site.words("--port", rig.url), passphrase="no such words at all")
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("limpet: ")
    assert done.err.count("\n") == 1
    assert rig.board.boots == boots
    assert not site.fleet_file.exists() or not Fleet(site.fleet_file).journal(rig.mac)


def test_there_is_no_authority(site: Site, tmp_path: Path) -> None:
    rig = site.board()
    done = site.limpet(*site.words("--port", rig.url, "--ca", str(tmp_path / "ca")))
    assert (done.code, done.out) == (1, "")
    assert "There is no certificate authority in" in done.err


def test_a_board_by_the_command_with_its_label(site: Site, tmp_path: Path) -> None:
    rig = site.board()
    file = tmp_path / "labels.csv"
    done = site.limpet(*site.words("--port", rig.url, "--id", "hand-1", "--labels", file))
    assert done.code == 0, done.err
    assert done.out.startswith(f"{rig.url}: hand-1 is in service: board {rig.mac}, certificate ")
    assert done.err.splitlines()[:2] == [f"{rig.url}: detect", f"{rig.url}: guard"]
    assert done.err.splitlines()[-2:] == [f"{rig.url}: proof", f"{rig.url}: in service"]
    assert [line.partition(",")[0] for line in file.read_text().splitlines()] == ["node_id", "hand-1"]
    again = site.limpet(*site.words("--port", rig.url, "--id", "hand-1", "--json"))
    assert (again.code, json.loads(again.out)["boards"][0]["state"]) == (0, "already")


def test_images_by_the_command(site: Site, tmp_path: Path) -> None:
    done = site.limpet(
        *site.words("--key", "host", "--image-dir", tmp_path, "--ids", "img-{n}", "--count", "2", "--json")
    )
    assert done.code == 0, done.err
    made = json.loads(done.out)["images"]
    assert [each["node"] for each in made] == ["img-1", "img-2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["img-1.bin", "img-2.bin"]


def test_ctrl_c(site: Site) -> None:
    """Boards at work are let go, nothing stays, and the next run goes on."""
    rig, deaf = site.board(), site.board()
    deaf.faults(deaf=True)
    words = site.words("--ids", "stop-{n}", "--port", rig.url, "--port", deaf.url)
    with site.passphrase() as fd:
        command = subprocess.Popen(
            [LIMPET, *words, "--passphrase-fd", str(fd)],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    assert command.stderr is not None
    try:
        while command.stderr.readline() != f"{rig.url}: boot\n":
            assert command.poll() is None
        os.kill(command.pid, signal.SIGINT)
        assert command.wait(DEADLINE) == 128 + signal.SIGINT
        assert "Traceback" not in command.stderr.read()
    finally:
        command.kill()
        command.wait()
    [outcome] = site.provision(rig, order=site.order(ids="stop-{n}"))
    assert (outcome.error, outcome.node_id) == (None, "stop-1")


def test_watch(site: Site) -> None:
    """What is plugged in becomes a node; what comes again is recognised; Ctrl-C ends it with a summary."""
    one, two = site.board(), site.board()
    two.inside(lambda: two.board.vanish(3600))
    words = site.words("--watch", "--ids", "seen-{n}", "--json", "--port", one.url, "--port", two.url)
    with site.passphrase() as fd:
        watch = subprocess.Popen(
            [LIMPET, *words, "--passphrase-fd", str(fd)],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    assert watch.stdout is not None
    try:
        first = json.loads(watch.stdout.readline())
        assert (first["port"], first["node"], first["state"]) == (one.url, "seen-1", "in service")
        two.inside(lambda: two.board.vanish(0.0))
        second = json.loads(watch.stdout.readline())
        assert (second["port"], second["node"], second["state"]) == (two.url, "seen-2", "in service")
        one.inside(lambda: one.board.vanish(6.0))
        again = json.loads(watch.stdout.readline())
        assert (again["port"], again["node"], again["state"]) == (one.url, "seen-1", "already")
        os.kill(watch.pid, signal.SIGINT)
        summary = json.loads(watch.stdout.read())
        assert summary == {"in_service": 2, "already": 1, "failed": 0, "exit_code": 0}
        assert watch.wait(DEADLINE) == 0
    finally:
        watch.kill()
        watch.wait()
    with Fleet(site.fleet_file) as fleet:
        assert len([node for node in fleet.nodes() if node.node_id.startswith("seen-")]) == 2
    wait_until(lambda: "uplink: connected" in one.log, "the node is back")
