"""All results as one JSON document, for other programs (docs/evidence.md has its fields)."""

import json

from host_tools.hil.evidence.collect import Results
from host_tools.hil.evidence.record import Result, to_object
from host_tools.hil.evidence.summary import WHAT_IT_IS_NOT, claim, summary

VERSION = 1
"""Of the document's form."""


def json_report(results: Results) -> str:
    """The document."""
    document = {
        "version": VERSION,
        "claim": claim(results),
        "rungs": {
            rung: WHAT_IT_IS_NOT[rung] for rung in WHAT_IT_IS_NOT if any(r.rung == rung for r in results)
        },
        "summary": summary(results),
        "lost": results.lost,
        "results": [_object(each) for each in results],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _object(result: Result) -> dict[str, object]:
    """As its line in the file, without the word that tells it from the begin of a test."""
    value = to_object(result)
    del value["line"]
    return value
