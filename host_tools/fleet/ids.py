"""Node ids from a pattern: `line3-{n:03}` is line3-001, line3-002 and so on."""

import itertools
import re
from collections.abc import Iterator

from host_tools.errors import UsageError
from host_tools.pki.names import is_node_id

_PLACE = re.compile(r"\{n(?::0?([1-9]))?\}")


def ids(pattern: str) -> Iterator[str]:
    """The ids that a pattern makes, beginning with number 1, until they are too long for a node id.

    Raises UsageError at once for a pattern that makes none.
    """
    places = _PLACE.findall(pattern)
    if len(places) != 1 or not is_node_id(_PLACE.sub("1", pattern)):
        raise UsageError(
            f"{pattern!r} makes no node ids: write one place for the number, {{n}} or {{n:03}}, among "
            "letters, digits and '-', such as line3-{n:03}."
        )
    made = (_PLACE.sub(str(number).zfill(int(places[0] or 1)), pattern) for number in itertools.count(1))
    return itertools.takewhile(is_node_id, made)
