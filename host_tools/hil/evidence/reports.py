"""The reports of a run, side by side in its folder."""

from pathlib import Path

from host_tools.errors import LimpetError
from host_tools.hil.evidence.collect import Results
from host_tools.hil.evidence.json_report import json_report


def write_reports(folder: Path, results: Results) -> list[Path]:
    """Write `report.html`, `junit.xml` and `results.json` into a folder. Raises LimpetError if that fails."""
    from host_tools.hil.evidence.html import html_report
    from host_tools.hil.evidence.junit import junit_report

    reports = {
        folder / "report.html": html_report(results),
        folder / "junit.xml": junit_report(results),
        folder / "results.json": json_report(results),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in reports.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LimpetError(
            f"The reports cannot be written to {folder} ({error.strerror}): name another folder."
        ) from None
    return list(reports)
