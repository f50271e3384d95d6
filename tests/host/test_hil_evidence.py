"""Results: nothing that was written is lost by a kill, and of what is lost the report says so."""

import json
import math
import os
import resource
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from host_tools.errors import LimpetError
from host_tools.hil import timeline
from host_tools.hil.evidence import Begun, Recorder, Scrubber, Tail, read_results, summary, write_reports
from host_tools.hil.evidence.collect import Results, settled
from host_tools.hil.evidence.summary import claim
from host_tools.hil.timeline import Timeline
from tests.host.evidence_results import DESK, START, VIRTUAL, happened, result

FAILED = result(
    outcome="failed",
    why="assert 1 == 2",
    attempts=2,
    needs=("power", "stimulus:temperature"),
    events=happened(
        (0.1, "serial", "limpet 0.1.0"), (1.0, "stimulus", "set", {"a/b": 2, "c/d": 2.5, "e": "x"})
    ),
    readings={"a/b": ((START, 2.0), (START + 1, None))},
)


def recorder(folder: Path, worker: str = "gw0") -> Recorder:
    return Recorder(folder, worker, Scrubber())


def recorded(folder: Path, *results, worker: str = "gw0") -> None:
    it = recorder(folder, worker)
    for each in results:
        it.begin(each.test, each.where)
        it.end(each)
    it.close()


# Timeline


def test_the_timeline_keeps_order_marks_and_values():
    events = Timeline()
    events.add("serial", "before")
    mark = events.mark()
    events.add("link", "latency", latency=0.25, count=3, who="node")
    events.add("serial", "after")
    assert [each.text for each in events.events()] == ["before", "latency", "after"]
    (latency, after) = events.events(mark)
    assert (latency.source, latency.values) == ("link", {"latency": 0.25, "count": 3, "who": "node"})
    assert latency.at <= after.at


def test_a_full_timeline_says_how_many_events_it_no_longer_has(monkeypatch):
    monkeypatch.setattr(timeline, "MOST_EVENTS", 5)
    events = Timeline()
    for number in range(8):
        events.add("serial", str(number))
    assert [each.text for each in events.events()][:2] == ["3 events before this one are no longer kept", "3"]
    assert events.events(2)[0].text.startswith("1 events before")
    assert [each.text for each in events.events(3)] == ["3", "4", "5", "6", "7"]
    assert events.events(8) == []


def test_a_line_without_end_does_not_fill_the_memory():
    events = Timeline()
    events.add("serial", "x" * 10_000)
    text = events.events()[0].text
    assert text == "x" * timeline.LONGEST_TEXT + "… (6,000 more characters)"


def test_threads_share_a_timeline():
    events = Timeline()

    def tell(n: int) -> None:
        for m in range(200):
            events.add("serial", f"{n}:{m}")

    threads = [threading.Thread(target=tell, args=(n,)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    texts = [each.text for each in events.events()]
    assert len(texts) == events.mark() == 800
    for n in range(4):
        assert [text for text in texts if text.startswith(f"{n}:")] == [f"{n}:{m}" for m in range(200)]


# Recorder and files


def test_a_result_comes_back_as_it_was(tmp_path):
    recorded(tmp_path, FAILED)
    assert read_results(tmp_path) == Results((FAILED,))
    assert isinstance(read_results(tmp_path)[0].events[1].values["a/b"], int)


def test_what_json_cannot_say_is_no_obstacle(tmp_path):
    events = happened((0, "serial", "broken \udcff UTF-8\x00"), (0, "clock", "jump", {"ahead": math.inf}))
    recorded(tmp_path, replace(FAILED, events=events, readings={"a": ((START, math.nan), (START, 1.0))}))
    (back,) = read_results(tmp_path)
    assert back.events == happened(
        (0, "serial", "broken \\udcff UTF-8\x00"), (0, "clock", "jump", {"ahead": "inf"})
    )
    assert back.readings == {"a": ((START, None), (START, 1.0))}


def test_processes_and_rigs_are_merged_in_the_order_of_their_start(tmp_path):
    late = result(test="tests/hil/test_b.py::test_two", started=START + 5)
    early = result(DESK, started=START + 1)
    other_rung = result(replace(DESK, rung="emulator"), started=START + 2)
    recorded(tmp_path, result(), late, worker="rigs/virtual gw0")
    recorded(tmp_path, other_rung, early, worker="desk")
    assert list(read_results(tmp_path)) == [result(), early, other_rung, late]
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_a_test_that_did_not_end_has_failed(tmp_path):
    it = recorder(tmp_path)
    it.begin("tests/hil/test_a.py::test_one", replace(VIRTUAL, mac=""))
    it.begin("tests/hil/test_a.py::test_two", VIRTUAL)
    it.end(result(test="tests/hil/test_a.py::test_two"))
    it.begin("tests/hil/test_a.py::test_three", VIRTUAL)
    found = {each.test[-5:]: each for each in read_results(tmp_path)}
    assert {name: each.outcome for name, each in found.items()} == {
        "t_one": "failed",
        "t_two": "passed",
        "three": "failed",
    }
    assert found["three"].why.startswith("did not end")
    assert found["three"].where == VIRTUAL


def test_a_worker_killed_in_the_middle_of_a_line_loses_that_line_and_the_report_says_so(tmp_path):
    """Really killed: by the kernel, when its file comes to a size in the middle of a line."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        it = recorder(tmp_path)
        it.begin("tests/hil/test_a.py::test_one", VIRTUAL)
        it.end(result())
        it.begin("tests/hil/test_a.py::test_two", VIRTUAL)
        size = (tmp_path / "results" / "gw0.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
        it.end(result(test="tests/hil/test_a.py::test_two"))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGXFSZ
    found = read_results(tmp_path)
    assert [(each.test[-3:], each.outcome) for each in found] == [("one", "passed"), ("two", "failed")]
    assert found.lost == ("gw0.jsonl, line 4: it is cut off, so its process was killed.",)
    for path in write_reports(tmp_path, found):
        assert "gw0.jsonl, line 4: it is cut off" in path.read_text(), path
    # Another process of that name goes on behind it.
    recorded(tmp_path, result(test="tests/hil/test_a.py::test_two", started=4e9))
    found = read_results(tmp_path)
    assert [(each.test[-3:], each.outcome) for each in found] == [("one", "passed"), ("two", "flaky")]
    assert [each.partition(" (")[0] for each in found.lost] == ["gw0.jsonl, line 4: it is no result"]


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[1]", b'"begin"', b'{"line": "end"}', b"\xff\xfe", b"nonsense"]
)
def test_a_line_that_is_none_of_ours_is_told(tmp_path, line):
    recorded(tmp_path, result())
    with (tmp_path / "results" / "gw0.jsonl").open("ab") as file:
        file.write(line + b"\n")
    found = read_results(tmp_path)
    assert list(found) == [result()]
    assert len(found.lost) == 1
    assert found.lost[0].startswith("gw0.jsonl, line 3: it is no result (")


def test_a_wrong_outcome_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="skipped"):
        recorder(tmp_path).end(result(outcome="skipped"))


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(LimpetError, match=r"cannot be written to .*: name another folder"):
        recorder(tmp_path)
    with pytest.raises(LimpetError, match="reports cannot be written"):
        write_reports(tmp_path / "results", Results(()))


def test_a_folder_without_results_has_none(tmp_path):
    assert read_results(tmp_path) == Results(())


def test_a_tail_follows_files_as_they_grow(tmp_path):
    tail = Tail(tmp_path)
    assert tail.news() == []
    first = recorder(tmp_path, "gw0")
    first.begin("t", VIRTUAL)
    ((name, begun),) = tail.news()
    assert (name, type(begun), begun.test) == ("gw0", Begun, "t")
    recorded(tmp_path, result(), worker="gw1")
    assert [name for name, _ in tail.news()] == ["gw1", "gw1"]
    path = tmp_path / "results" / "gw0.jsonl"
    first.end(result(test="t"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert tail.news() == []
    assert tail.lost() == ("gw0.jsonl, line 2: it is cut off, so its process was killed.",)
    path.write_bytes(whole)
    assert tail.news() == [("gw0", result(test="t"))]
    assert tail.lost() == ()


# What a test is after several attempts


@pytest.mark.parametrize(
    ("outcomes", "one"),
    [
        ("passed", "passed"),
        ("failed passed", "flaky"),
        ("passed failed passed", "flaky"),
        ("quarantined passed", "flaky"),
        ("flaky passed", "flaky"),
        ("passed failed", "failed"),
        ("failed failed", "failed"),
        ("failed blocked", "failed"),
        ("blocked passed", "passed"),
        ("blocked blocked", "blocked"),
        ("failed quarantined", "quarantined"),
    ],
)
def test_attempts_are_settled(outcomes, one):
    attempts = [
        result(outcome=outcome, started=START + n, why=f"why {n}", events=happened((n, "test", str(n))))
        for n, outcome in enumerate(outcomes.split())
    ]
    found = settled(attempts)
    assert found.outcome == one
    assert found.attempts == len([word for word in outcomes.split() if word != "blocked"] or attempts)
    if one == "flaky":
        last_bad = max(
            n for n, word in enumerate(outcomes.split()) if word in ("failed", "quarantined", "flaky")
        )
        assert (found.why, found.events[0].text) == (f"why {last_bad}", str(last_bad))


def test_attempts_of_several_processes_are_one_result(tmp_path):
    recorder(tmp_path, "gw0").begin("tests/hil/test_a.py::test_one", VIRTUAL)
    recorded(tmp_path, result(started=4e9), worker="gw2")
    recorded(tmp_path, result(DESK), worker="desk")
    found = {each.rig: each for each in read_results(tmp_path)}
    assert (found["virtual"].outcome, found["virtual"].attempts) == ("flaky", 2)
    assert found["virtual"].why.startswith("did not end")
    assert found["desk"].outcome == "passed"


# What is said of all


def test_every_outcome_is_counted():
    outcomes = ["passed", "passed", "failed", "blocked"]
    assert summary(result(outcome=each) for each in outcomes) == {
        "passed": 2,
        "failed": 1,
        "blocked": 1,
        "flaky": 0,
        "quarantined": 0,
    }


def test_only_real_boards_speak_for_hardware():
    emulated = replace(VIRTUAL, rung="emulator", rig="qemu")
    nothing = "Nothing in this report ran on a real board."
    assert claim([]) == claim([result(), result(emulated)]) == nothing
    assert claim([result(), result(DESK, outcome="blocked")]) == nothing
    assert claim([result(), result(DESK), result(test="t::other")]).startswith(
        "1 of 2 tests ran on a real board; 1 "
    )
    lab = replace(DESK, rig="lab")
    for outcome in ("failed", "flaky", "quarantined"):
        assert "; 0 of those passed" in claim([result(DESK), result(lab, outcome=outcome)])
    assert "; 1 of those passed" in claim([result(DESK), result(lab, outcome="blocked")])


def test_the_json_report_has_all_fields(tmp_path):
    _, _, path = write_reports(
        tmp_path, Results((FAILED, result(DESK)), ("a.jsonl, line 1: it is cut off.",))
    )
    document = json.loads(path.read_text())
    assert path.name == "results.json"
    assert document["version"] == 1
    assert document["summary"] == {"passed": 1, "failed": 1, "blocked": 0, "flaky": 0, "quarantined": 0}
    assert list(document["rungs"]) == ["virtual", "bench"]
    assert "It is no ESP32" in document["rungs"]["virtual"]
    assert document["claim"].startswith("1 of 1 tests ran on a real board")
    assert document["lost"] == ["a.jsonl, line 1: it is cut off."]
    assert document["results"][0] == {
        "rung": "virtual",
        "rig": "virtual",
        "board": "virtual",
        "mac": "02:4c:50:00:00:01",
        "firmware": "0.1.0",
        "firmware_sha256": "3f" * 32,
        "image_sha256": "ab" * 32,
        "micropython": "1.29.0-preview",
        "test": "tests/hil/test_a.py::test_one",
        "outcome": "failed",
        "started": START,
        "seconds": 2.5,
        "why": "assert 1 == 2",
        "attempts": 2,
        "needs": ["power", "stimulus:temperature"],
        "events": [
            {"at": START + 0.1, "source": "serial", "text": "limpet 0.1.0", "values": {}},
            {
                "at": START + 1,
                "source": "stimulus",
                "text": "set",
                "values": {"a/b": 2, "c/d": 2.5, "e": "x"},
            },
        ],
        "readings": {"a/b": [[START, 2.0], [START + 1, None]]},
    }
    documented = Path("docs/evidence.md").read_text()
    for field in (*document, *document["results"][0], *document["results"][0]["events"][0]):
        assert f"`{field}`" in documented, field
