"""The view for programs: one JSON object a line."""

import json
from dataclasses import asdict

from host_tools.demo.model import Notice, Summary
from host_tools.telemetry.senml import Reading


def line(item: Reading | Notice) -> str:
    """A reading with the keys of `Reading`, or a notice with `at` (seconds since 1970) and `text`."""
    words = asdict(item)
    if isinstance(item, Reading) and item.value is not None:
        words["value"] = float(item.value)
    return json.dumps(words, ensure_ascii=False)


def last_line(summary: Summary) -> str:
    """How it ended, with the keys of `Summary`."""
    return json.dumps(asdict(summary))
