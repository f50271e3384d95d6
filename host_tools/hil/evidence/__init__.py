"""What a run leaves behind: each result, what it ran on, and why it failed if it did (docs/evidence.md)."""

from host_tools.hil.evidence.collect import Results, Tail, read_results
from host_tools.hil.evidence.record import OUTCOMES, RUNGS, Begun, Line, Outcome, Result, Rung, Samples, Where
from host_tools.hil.evidence.recorder import Recorder
from host_tools.hil.evidence.reports import write_reports
from host_tools.hil.evidence.scrub import Scrubber
from host_tools.hil.evidence.summary import summary

__all__ = [
    "OUTCOMES",
    "RUNGS",
    "Begun",
    "Line",
    "Outcome",
    "Recorder",
    "Result",
    "Results",
    "Rung",
    "Samples",
    "Scrubber",
    "Tail",
    "Where",
    "read_results",
    "summary",
    "write_reports",
]
