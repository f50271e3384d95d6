"""Leases: one run at a time on a rig, among real processes that end in every way there is."""

import contextlib
import dataclasses
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from host_tools.errors import LimpetError
from host_tools.hil import lease
from host_tools.hil.blocked import Blocked
from host_tools.hil.lease import Claim, Holder, Lease
from host_tools.hil.rigs import load_rig

DESK = Claim("MAC 24:0a:c4:00:00:01", "desk")
SHELF = Claim("USB 1-1.4", "shelf")
ALICE = Holder(name="nightly #217", user="alice", host="bench1", pid=4711, since=1e9, until=1e9 + 600)
NOBODY = 65534
Say = Callable[[str], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """As /run/lock is: everybody may write, and nobody may remove what is another's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


@contextlib.contextmanager
def taken(
    folder: Path,
    *claims: Claim,
    holder: str = "us",
    wait_s: float = 30.0,
    tell: Say = print,
) -> Iterator[Lease]:
    with lease.first_free(
        claims or [DESK], holder, wait_s=wait_s, ttl_s=600.0, on_wait=tell, folder=folder
    ) as ours:
        yield ours


def is_free(folder: Path, claim: Claim = DESK) -> bool:
    try:
        with taken(folder, claim, wait_s=0.0):
            return True
    except Blocked:
        return False


class Forked:
    """A child of ours that runs `act`, says a word when that calls back, and is killed at the end."""

    def __init__(self, act: Callable[[Say], object]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                act(lambda word: os.write(write, word.encode()))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(write)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self._read)

    def said(self) -> str:
        """What it says next; nothing when it has ended."""
        return os.read(self._read, 4096).decode()

    def ended(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def for_ever() -> None:
    while True:
        signal.pause()


# -- One at a time


def test_of_many_contenders_each_has_its_turn_and_never_two_at_once(folder: Path) -> None:
    """Eight processes, two rigs, and a third of the turns ends with kill -9 in the middle."""
    turns = 9

    def contend(number: int, turn: int, _: Say) -> None:
        with taken(folder, DESK, SHELF, holder=f"run {number}") as ours:
            inside = folder / f"inside {ours.claim.name}"
            ourselves = f"{number} {turn}"
            inside.write_text(ourselves)
            for _read in range(10):
                assert inside.read_text() == ourselves, "two at once"
                time.sleep(0.001)
            with (folder / "turns").open("a") as file:
                file.write(f"{ours.claim.name}\n")
            if (number + turn) % 3 == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def run(number: int, _: Say) -> None:
        for turn in range(turns):
            with Forked(partial(contend, number, turn)) as child:
                assert child.ended() in (0, -signal.SIGKILL), "see the traceback above"

    with contextlib.ExitStack() as runs:
        children = [runs.enter_context(Forked(partial(run, n))) for n in range(8)]
        assert [child.ended() for child in children] == [0] * 8
    names = (folder / "turns").read_text().split()
    assert len(names) == 8 * turns
    assert set(names) == {"desk", "shelf"}


def test_a_lease_that_was_given_back_is_free_and_says_nothing_of_its_holder(folder: Path) -> None:
    with taken(folder):
        assert not is_free(folder)
        assert is_free(folder, SHELF)
    told: list[str] = []
    with taken(folder, tell=told.append) as ours:
        assert ours.left_by is None
    assert told == []


def test_it_is_given_back_after_a_failure(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), taken(folder):
        raise ZeroDivisionError
    assert is_free(folder)


def test_whichever_rig_is_free_is_taken_the_first_named_first(folder: Path) -> None:
    with taken(folder, DESK, SHELF) as first, taken(folder, DESK, SHELF) as second:
        assert [first.claim, second.claim] == [DESK, SHELF]
        with pytest.raises(Blocked) as blocked, taken(folder, DESK, SHELF, wait_s=0.0):
            pass
    assert "The rig desk is held" in str(blocked.value)
    assert "The rig shelf is held" in str(blocked.value)


def test_workers_of_pytest_xdist_take_turns(tmp_path: Path) -> None:
    """Two workers and one rig: one of them holds it to its end, the other one gets it then."""
    (tmp_path / "conftest.py").write_text(
        "import pathlib, pytest\n"
        "from host_tools.hil.lease import Claim, first_free\n"
        "here = pathlib.Path(__file__).parent\n"
        "@pytest.fixture(scope='session')\n"
        "def rig(worker_id):\n"
        "    claims = [Claim('MAC 1', 'desk')]\n"
        "    with first_free(claims, worker_id, wait_s=60, ttl_s=60, on_wait=print, folder=here):\n"
        "        (here / 'inside').touch(exist_ok=False)\n"
        "        yield\n"
        "        (here / 'inside').unlink()\n"
    )
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text("def test_it(rig):\n    pass\n")
    words = ["-q", "-n", "2", "--dist", "loadfile", "-p", "no:limpet", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


# -- However a run ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_cancelled_job_leaves_no_lease_behind(folder: Path, number: int) -> None:
    """The process group ends at once, by SIGTERM or SIGKILL, with a program that it has started."""
    code = (
        "import subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from host_tools.hil.lease import Claim, held\n"
        "with held(Claim(sys.argv[2], 'desk'), 'job 9', wait_s=0, ttl_s=60, on_wait=print,\n"
        "          folder=Path(sys.argv[1])):\n"
        "    subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), DESK.key],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "held\n"
    assert not is_free(folder)
    os.killpg(job.pid, number)
    job.communicate()
    told: list[str] = []
    with taken(folder, tell=told.append) as ours:
        assert ours.left_by is not None
        assert (ours.left_by.name, ours.left_by.pid) == ("job 9", job.pid)
    assert [sentence for sentence in told if "ended without giving it back" in sentence]


def _starts_a_program() -> None:
    subprocess.Popen(["sleep", "60"], close_fds=False)


def _forks() -> None:
    if not os.fork():
        for_ever()


@pytest.mark.parametrize("leave", [_starts_a_program, _forks])
def test_what_a_killed_run_leaves_behind_does_not_hold_its_lease(
    folder: Path, leave: Callable[[], None]
) -> None:
    def run(say: Say) -> None:
        os.setpgid(0, 0)
        with taken(folder):
            leave()
            say("held")
            for_ever()

    with Forked(run) as child:
        assert child.said() == "held"
        assert not is_free(folder)
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        try:
            with taken(folder, wait_s=10.0):
                os.killpg(child.pid, 0)  # what it left behind is there
        finally:
            os.killpg(child.pid, signal.SIGKILL)


def test_a_forked_child_that_ends_takes_nothing_from_its_parent(folder: Path) -> None:
    with taken(folder) as ours:

        def leave(say: Say) -> None:
            ours.renew()
            ours.release()
            say("free" if is_free(folder) else "held")

        with Forked(leave) as child:
            assert child.said() == "held"
            assert child.ended() == 0
        assert not is_free(folder)
        [file] = folder.glob("*.lease")
        assert Holder.model_validate_json(file.read_bytes()).pid == os.getpid()


# -- Whom we wait for


def test_who_waits_is_told_for_whom_once_and_then_has_it(folder: Path) -> None:
    told: list[str] = []
    with contextlib.ExitStack() as waiting:
        with taken(folder, holder="nightly #217"):

            def wait(say: Say) -> None:
                with taken(folder, tell=say):
                    say(" and got it")

            child = waiting.enter_context(Forked(wait))
            told.append(child.said())
            time.sleep(5 * lease._POLL_S)
        told.append(child.said())
    pattern = r"The rig desk is held by nightly #217 \(user \S+, process (\d+) on \S+\) since (.{10} .{8})\."
    found = re.fullmatch(pattern, told[0])
    assert found, told[0]
    assert int(found[1]) == os.getpid()
    assert abs(time.mktime(time.strptime(found[2], "%Y-%m-%d %H:%M:%S")) - time.time()) < 60
    assert told[1] == " and got it"


def test_whoever_waits_in_vain_is_blocked_and_knows_for_whom(folder: Path) -> None:
    with taken(folder, holder="bob"), pytest.raises(Blocked) as blocked, taken(folder, wait_s=0.2):
        pass
    assert re.fullmatch(
        r"The rig desk is held by bob \(.*\) since .*\. We have waited 0\.2 s\.", str(blocked.value)
    )


def test_a_stopped_run_keeps_its_lease_and_is_told_as_stuck(folder: Path) -> None:
    """It holds the kernel's lock, so it may be using the rig yet: nobody takes it away."""

    def run(say: Say) -> None:
        with lease.held(DESK, "bob", wait_s=0, ttl_s=0.0, on_wait=print, folder=folder):
            say("held")
            for_ever()

    with Forked(run) as child:
        assert child.said() == "held"
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(Blocked) as blocked, taken(folder, wait_s=0.0):
            pass
        assert "it hangs, is stopped, or waits for its user" in str(blocked.value)
        assert f"'kill -9 {child.pid}' on " in str(blocked.value)
        os.kill(child.pid, signal.SIGKILL)
        with taken(folder):
            pass


def test_a_run_that_comes_further_puts_off_its_time(folder: Path) -> None:
    def said() -> Holder:
        [file] = folder.glob("*.lease")
        return Holder.model_validate_json(file.read_bytes())

    with taken(folder) as ours:
        before = said()
        assert before.until - before.since == pytest.approx(600.0, abs=30.0)
        ours.renew()
        after = said()
    assert after.until > before.until
    assert after.since == before.since


@pytest.mark.parametrize(
    ("now", "stuck"),
    [(ALICE.until, ""), (ALICE.until + 1, "Ask alice; 'kill -9 4711' on bench1 frees the rig.")],
)
def test_a_holder_beyond_its_time_is_told_with_a_remedy(now: float, stuck: str) -> None:
    told = lease.waits_for(DESK, ALICE, now)
    assert told.startswith("The rig desk is held by nightly #217 (user alice, process 4711 on bench1) since ")
    assert told.endswith(stuck) and ("hangs" in told) == bool(stuck)


def test_a_holder_that_has_not_said_its_name_is_waited_for_as_well(folder: Path) -> None:
    with taken(folder):
        [file] = folder.glob("*.lease")
        file.write_text("{")
        who = "held by a run that has not said yet who it is"
        with pytest.raises(Blocked, match=who), taken(folder, wait_s=0.0):
            pass


def test_what_another_user_writes_cannot_drive_our_terminal(folder: Path) -> None:
    with taken(folder):
        [file] = folder.glob("*.lease")
        file.write_text(ALICE.model_copy(update={"name": "\x1b[2Jmallory\n"}).model_dump_json())
        with (
            pytest.raises(Blocked, match=re.escape("held by ?[2Jmallory? (user alice")),
            taken(folder, wait_s=0.0),
        ):
            pass


# -- Files and folders


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_all_users_of_the_machine_meet_at_the_same_file(everybodys: Path) -> None:

    def as_nobody(say: Say) -> None:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with taken(everybodys, SHELF, holder="nobody"):
            with taken(everybodys, tell=say):
                say(" and got it")
            for_ever()

    with contextlib.ExitStack() as other:
        with taken(everybodys, holder="root's"):
            child = other.enter_context(Forked(as_nobody))
            assert "held by root's" in child.said()
        assert child.said() == " and got it"
        with pytest.raises(Blocked, match="held by nobody"), taken(everybodys, SHELF, wait_s=0.0):
            pass
    assert is_free(everybodys, SHELF)


def test_a_file_is_for_everybody_whatever_the_umask_is(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        assert is_free(folder)
    finally:
        os.umask(before)
    [file] = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o666


def test_a_lock_on_a_file_that_was_removed_keeps_nobody_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody tidies up between our opening the file and our locking it: we lock the new one."""
    real = lease._open

    def tidied(path: Path) -> int:
        number = real(path)
        monkeypatch.setattr(lease, "_open", real)
        path.unlink()
        return number

    monkeypatch.setattr(lease, "_open", tidied)
    with taken(folder):
        assert not is_free(folder)


def test_each_key_has_a_file_of_its_own() -> None:
    keys = [
        "USB 1-1.4",
        "USB 1-1-4",
        "usb 1-1.4",
        "rfc2217://lab:4000",
        "x" * 300,
        "x" * 301,
        "../../etc",
        "/",
        "",
    ]
    names = [lease.file_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert all(re.fullmatch(r"limpet-[A-Za-z0-9.-]*\.lease", name) and len(name) < 100 for name in names)
    assert names[0].startswith("limpet-USB-1-1.4-")


def test_what_is_no_file_is_refused_with_a_remedy(folder: Path) -> None:
    path = folder / lease.file_name(DESK.key)
    remedy = r"remove it when nobody holds it, or name a folder .* by LIMPET_LEASES\.$"
    os.mkfifo(path)
    with pytest.raises(LimpetError, match=rf"it is no file\): {remedy}"), taken(folder):
        pass
    path.unlink()
    path.symlink_to(folder / "elsewhere")
    with pytest.raises(LimpetError, match=rf"cannot be opened \(.*\): {remedy}"), taken(folder):
        pass
    assert not (folder / "elsewhere").exists()


def test_a_folder_that_cannot_be_is_refused_with_a_remedy(folder: Path) -> None:
    (folder / "file").touch()
    with (
        pytest.raises(LimpetError, match=r"\(not a directory\): .* LIMPET_LEASES\.$"),
        taken(folder / "file"),
    ):
        pass


def test_the_folder_is_the_machine_s_or_the_one_that_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lease.VARIABLE, str(folder))
    assert lease.default_folder() == folder
    monkeypatch.delenv(lease.VARIABLE)
    assert lease.default_folder() in (Path("/run/lock"), Path("/tmp"))
    assert lease.default_folder().stat().st_mode & stat.S_IWOTH


# -- What is claimed


def test_a_rig_is_claimed_by_what_it_is_not_by_its_file_s_name(tmp_path: Path) -> None:
    def claim(name: str, *lines: str) -> Claim | None:
        path = tmp_path / f"{name}.toml"
        path.write_text("\n".join(['rung = "bench"', 'board = "esp32_devkitc"', *lines]))
        return lease.claim_of(load_rig(str(path)))

    mac = 'port = { mac = "24:0A:C4:00:00:01" }'
    assert claim("desk", mac) == DESK
    assert claim("mine", mac) == dataclasses.replace(DESK, name="mine")
    assert claim("shelf", 'port = { usb = "1-1.4" }') == SHELF
    lab = claim("lab", 'place = { name = "esp32-1", coordinator = "lab.example:20408" }')
    other = claim("other", 'place = { name = "esp32-1", coordinator = "other.example:20408" }')
    assert lab and other and lab.key != other.key


def test_a_rig_that_each_run_makes_anew_needs_no_lease() -> None:
    assert lease.claim_of(load_rig("virtual")) is None
