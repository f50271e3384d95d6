"""Places of a labgrid lab: the real coordinator, exporter and client, and a virtual board behind them."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mpremote.transport_serial import SerialTransport

from host_tools.hil import lab as hil_lab
from host_tools.hil.blocked import Blocked
from host_tools.hil.lab import place, waiting
from host_tools.hil.lab.shown import Reservation, Shown, owner_of, parse_reservation, parse_show
from host_tools.hil.rigs import Place
from host_tools.hil.who import user
from tests.host.labgrid_stand import BOARD, LONELY, Lab, labgrid_lab
from tests.host.stand import wait_until

HERE = socket.gethostname()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labgrid_lab() as lab:
        yield lab


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_SOON_S", 0.2)
    monkeypatch.setattr(waiting, "_LOOK_S", 0.5)


@pytest.fixture
def told() -> list[str]:
    return []


# -- A place that is ours


def test_a_place_is_a_port_and_a_switch_until_the_end_of_the_run(lab: Lab, told: list[str]) -> None:
    """Whatever the end is: here it is a failure."""
    with pytest.raises(ZeroDivisionError), place(lab.place(), told.append) as ours:
        holder = lab.holder()
        assert holder and re.fullmatch(rf"{HERE}/{user()}-limpet-{os.getpid()}-[0-9a-f]{{4}}", holder)
        assert ours.power is not None
        ours.power.off()
        assert not lab.rig.board.is_on
        ours.power.on()
        assert lab.rig.board.is_on
        lab.switch.works = False
        why = rf"^labgrid refused 'power off' for the place {BOARD}: .*503 Server Error.*[^.]\.$"
        with pytest.raises(Blocked, match=why):
            ours.power.off()
        board = SerialTransport(ours.url, timeout=20)
        try:
            board.enter_raw_repl(soft_reset=False, timeout_overall=30)
            assert board.exec("print(6 * 7)") == b"42\r\n"
        finally:
            board.close()
        raise ZeroDivisionError
    assert lab.is_forgotten()
    assert told == []


@pytest.mark.soak
def test_it_is_given_back_when_the_whole_process_group_is_killed(lab: Lab) -> None:
    code = (
        "import sys, time\n"
        "from host_tools.hil.lab import place\n"
        "from host_tools.hil.rigs import Place\n"
        "with place(Place(name=sys.argv[1], coordinator=sys.argv[2], client=sys.argv[3]), print):\n"
        "    print('ours', flush=True)\n    time.sleep(60)\n"
    )
    words = [sys.executable, "-c", code, BOARD, lab.coordinator, str(lab.client)]
    run = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "ours\n"
    assert lab.holder()
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    wait_until(lab.is_forgotten, "the place to be given back")


@pytest.mark.soak
def test_what_the_user_has_acquired_by_hand_is_used_and_left_to_the_user(lab: Lab, told: list[str]) -> None:
    lab.by_hand("acquire", user=user())
    try:
        with place(lab.place(), told.append) as ours:
            assert ours.url == lab.rig.url
        assert lab.holder() == f"{HERE}/{user()}"
    finally:
        lab.by_hand("release", user=user())


# -- A place that somebody else has


@pytest.mark.soak
def test_who_waits_is_told_for_whom_and_comes_in_turn(lab: Lab, told: list[str]) -> None:
    """Bob has reserved the place, then acquires it, then gives it back: each when we have told the last."""
    token = lab.by_hand("reserve", "--shell", f"name={BOARD}").rpartition("=")[2].strip()

    def tell(sentence: str) -> None:
        told.append(sentence)
        if len(told) == 1:
            lab.by_hand("acquire")
        else:
            lab.by_hand("release")
            lab.by_hand("cancel-reservation", token)

    with place(lab.place(), tell):
        assert lab.holder() != f"{HERE}/bob"
    assert told[0] == f"The place {BOARD} is reserved for bob on {HERE}."
    assert re.fullmatch(
        rf"The place {BOARD} is held by bob on {HERE} since [-0-9]{{10}} [:0-9]{{8}}\.", told[1]
    )
    assert len(told) == 2
    assert lab.is_forgotten()


@pytest.mark.soak
def test_two_runs_of_one_user_do_not_share_a_place(lab: Lab, told: list[str]) -> None:
    with place(lab.place(), print):
        first = lab.holder()
        assert first
        with pytest.raises(Blocked) as blocked, place(lab.place(), told.append, wait_s=0.0):
            pass
        assert lab.holder() == first
    name = re.escape(first.partition("/")[2])
    sentence = rf"The place {BOARD} is held by {name} on {HERE} since .*\. We have waited 0 s\."
    assert re.fullmatch(sentence, str(blocked.value))
    assert lab.is_forgotten()


def test_the_place_of_a_dead_run_is_told_with_the_remedy() -> None:
    def told(who: str, is_alive: bool) -> str:
        shown = Shown("esp32-1", who, "2026-11-22 14:03:11", None, [])
        return waiting.waits_for(
            shown, None, "bench1", lambda pid: is_alive or pid != 4711, "labgrid-client …"
        )

    run = "bench1/alice-limpet-4711-09af"
    held = "The place esp32-1 is held by alice-limpet-4711-09af on bench1 since 2026-11-22 14:03:11."
    assert told(run, is_alive=True) == held
    assert told(run, is_alive=False) == (
        f"{held} Process 4711 is gone from here, so that run is dead: "
        "give its place back by 'labgrid-client …'."
    )
    assert "dead" not in told("bench2/alice-limpet-4711-09af", is_alive=False)
    assert "dead" not in told("bench1/alice", is_alive=False)
    assert waiting.user_of_run("alice", 4711, "09af") == run.partition("/")[2]


# -- What a lab cannot do


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", r"labgrid refused 'show' for the place nowhere: place pattern nowhere matches nothing\."),
        ("esp32", r"The lab at \S+ has no place 'esp32', but 'esp32-1': name that in the rig file\."),
        (LONELY, r"labgrid refused 'acquire' .*: Match attic/\*/\* has no matching remote resource\."),
    ],
)
def test_a_place_that_cannot_serve_is_told_in_one_sentence(lab: Lab, name: str, why: str) -> None:
    with pytest.raises(Blocked, match=f"^{why}$"), place(lab.place(name), print):
        pass
    assert not lab.by_hand("reservations")


@pytest.mark.soak
def test_a_lost_coordinator_is_told_in_one_sentence(told: list[str]) -> None:
    """In the middle of a run, at its end, and before the next one."""
    with labgrid_lab() as lab:
        lost = rf"The labgrid coordinator {lab.coordinator} cannot be reached: .* LG_COORDINATOR\)\."
        with place(lab.place(), told.append) as ours:
            assert ours.power is not None
            lab.stop()
            with pytest.raises(Blocked, match=f"^{lost}$"):
                ours.power.off()
        [at_the_end] = told
        command = rf"labgrid-client -x {lab.coordinator} -p {BOARD} release-from {HERE}/{user()}-limpet-\S+"
        assert re.fullmatch(
            rf"{lost} The place may still be ours: give it back with '{command}'\.", at_the_end
        )
        with pytest.raises(Blocked, match=f"^{lost}$"), place(lab.place(), told.append):
            pass


def test_without_labgrid_client_one_learns_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(hil_lab.VARIABLE, raising=False)
    remedy = r"install labgrid into an environment of its own .* LIMPET_LABGRID\."
    with pytest.raises(Blocked, match=f"there is no program 'labgrid-client': {remedy}$"):
        place(Place(name=BOARD), print).__enter__()
    monkeypatch.setenv(hil_lab.VARIABLE, "named/labgrid-client")
    with pytest.raises(Blocked, match="there is no program 'named/labgrid-client': "):
        place(Place(name=BOARD), print).__enter__()


# -- What labgrid-client prints

_SHOW = """\
Place 'esp32-1':
  aliases: desk
  comment: Acquired resource 'x' (
  tags: board=esp32
  matches:
    bench/desk/*
  acquired: {acquired}
  acquired resources:
    bench/desk/NetworkPowerPort/NetworkPowerPort
    bench/desk/NetworkSerialPort/console
  created: 2026-11-22 02:37:22.030156
  changed: 2026-11-22 02:37:23.422978
{reservation}Acquired resource 'NetworkPowerPort' (bench/desk/NetworkPowerPort/NetworkPowerPort):
  {{'acquired': 'esp32-1',
   'avail': True,
   'cls': '{switch}',
   'params': {{'extra': {{'proxy': 'localhost', 'proxy_required': False}}, 'index': 0}}}}
Acquired resource 'console' (bench/desk/NetworkSerialPort/console):
  {{'acquired': 'esp32-1',
   'avail': {avail},
   'cls': 'NetworkSerialPort',
   'params': {{'extra': {{'proxy': 'lab3', 'proxy_required': {proxy}}},
              'host': 'lab3',
              'port': {port},
              'protocol': '{protocol}',
              'speed': 115200}}}}
"""


def shown(**changes: object) -> Shown:
    return shown_as(_SHOW, **changes)


def shown_as(text: str, **changes: object) -> Shown:
    values = {
        "acquired": "None",
        "reservation": "",
        "switch": "NetworkPowerPort",
        "avail": True,
        "proxy": False,
        "port": 4000,
        "protocol": "rfc2217",
    }
    return parse_show(text.format(**{**values, **changes}))


def test_show_is_understood() -> None:
    free = shown()
    assert (free.name, free.acquired, free.reservation) == ("esp32-1", None, None)
    assert (free.changed, free.url, free.has_power) == ("2026-11-22 02:37:23", "rfc2217://lab3:4000", True)
    ours = shown(acquired="bench1/alice", reservation="  reservation: X5UGSK26NZ\n")
    assert (ours.acquired, ours.reservation) == ("bench1/alice", "X5UGSK26NZ")
    assert shown(protocol="raw").url == "socket://lab3:4000"
    assert not shown(switch="NetworkService").has_power


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"avail": False},
            "is not there: see whether the board is plugged in at the host of its exporter bench.",
        ),
        (
            {"port": None},
            "is not there: see whether the board is plugged in at the host of its exporter bench.",
        ),
        (
            {"proxy": True},
            "lets nobody in but through an SSH tunnel by way of lab3: run limpet on that host.",
        ),
        ({"switch": "NetworkSerialPort"}, "and it has NetworkPowerPort, console: "),
    ],
)
def test_a_port_that_cannot_be_used_is_told(changes: dict[str, object], why: str) -> None:
    with pytest.raises(Blocked, match=re.escape(why)):
        _ = shown(**changes).url


@pytest.mark.parametrize(
    "change", [("'cls'", "'class'"), ("  changed:", "  touched:"), ("{{", "<"), (_SHOW, "")]
)
def test_what_another_labgrid_prints_is_refused(change: tuple[str, str]) -> None:
    with pytest.raises(
        Blocked, match=r"'labgrid-client show' prints is not as labgrid 26\.0 has it: install"
    ):
        shown_as(_SHOW.replace(*change))


def test_a_reservation_is_understood() -> None:
    text = "Reservation 'X5UGSK26NZ':\n  owner: bench1/alice\n  token: X5UGSK26NZ\n  state: {}\n  filters:\n"
    assert parse_reservation(text.format("waiting")) == Reservation("X5UGSK26NZ", has_place=False)
    assert parse_reservation(text.format("allocated")) == Reservation("X5UGSK26NZ", has_place=True)
    with pytest.raises(Blocked, match="'labgrid-client reserve' prints is not"):
        parse_reservation("")


def test_a_reservation_s_owner_is_found() -> None:
    text = "Reservation 'AAA':\n  owner: bench1/alice\nReservation 'AAAB':\n  owner: bench2/bob\n"
    assert [owner_of(token, text) for token in ("AAA", "AAAB", "AA")] == ["bench1/alice", "bench2/bob", None]
