"""The ten quickest tests of the suite, again and again: what fails once in a thousand runs is found here."""

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from host_tools import paths

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "200"))
SIDE_BY_SIDE = 6
QUICKEST = 10
LIMPET = Path(sys.executable).parent / "limpet"


def run(out: Path, *words: str) -> Counter[str]:
    """Run tests on a virtual board of their own, without retries; how many had which outcome."""
    common = ["--retries", "0", "--out", str(out), "--ledger", str(out / "hil.db")]
    done = subprocess.run(
        [LIMPET, "hil", "run", "--rig", "virtual", *common, *words],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = Counter(str(each["outcome"]) for each in results(out))
    assert done.returncode in (0, 1), done.stderr
    return outcomes


def results(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((out / "results.json").read_text())["results"]
    return found


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_quickest_tests_are_never_flaky(tmp_path: Path) -> None:
    assert run(tmp_path / "all")["failed"] == 0
    by_time = sorted(results(tmp_path / "all"), key=lambda each: each["seconds"])  # type: ignore[arg-type, return-value]
    tests = [str(each["test"]) for each in by_time if each["outcome"] == "passed"][:QUICKEST]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        rounds = list(pool.map(lambda number: run(tmp_path / str(number), *tests), range(ROUNDS)))
    total = sum(rounds, Counter())
    print(f"{ROUNDS} rounds of {QUICKEST} tests: {dict(total)}; {', '.join(tests)}")
    assert total == {"passed": ROUNDS * QUICKEST}
