"""docs/hil.md: the test that it begins with, run as it stands there, on the rig that comes with limpet."""

import textwrap
from pathlib import Path

from host_tools import paths
from host_tools.hil.children import Watch
from host_tools.hil.run import Order, run

PAGE = paths.ROOT / "docs" / "hil.md"
RUN_FOR = "node.run_for(30)"


def test_the_first_test_of_the_page_passes(tmp_path: Path) -> None:
    lines = PAGE.read_text().split("\n")
    begin = next(at for at, line in enumerate(lines) if line.startswith("    def test_"))
    end = begin + lines[begin:].index("")
    text = textwrap.dedent("\n".join(lines[begin:end]))
    assert RUN_FOR in text
    file = tmp_path / "test_outage.py"
    file.write_text(text.replace(RUN_FOR, "node.run_for(4)"))
    outcome = run(Order(tests=(str(file),), out=tmp_path / "out", retries=0), Watch())
    assert [(each.outcome, each.rung) for each in outcome.results] == [("passed", "virtual")]
    assert outcome.exit_code == 0
