"""What all payloads have in common: JSON that is read strictly, and what is refused."""

import json
from decimal import Decimal
from typing import NoReturn

from host_tools.errors import LimpetError

WHOLE_BELOW = 2**53
"""Above the whole numbers that every JSON reader keeps exactly (RFC 8259 §6)."""


class PayloadError(LimpetError):
    """A payload is not what docs/wire.md describes."""


def parse(payload: bytes) -> object:
    """The JSON value of a payload; every number in it is a Decimal, digit for digit. Raises PayloadError."""
    try:
        # Whole numbers become Decimal as well, so that a value is of one type and `true` is never a number.
        return json.loads(
            payload.decode(),
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=_no_constant,
            object_pairs_hook=_no_repeats,
        )
    except UnicodeDecodeError as error:
        raise PayloadError(f"the payload is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise PayloadError(f"the payload is not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise PayloadError("the payload is nested too deep") from None


def _no_constant(name: str) -> NoReturn:
    raise PayloadError(f"the payload has {name}, which JSON does not have")


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise PayloadError("a record has the same field twice")
    return record


def whole_number(value: object, least: int = 0) -> int | None:
    """A whole number from `least` on that `parse` has read, else None."""
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0 and least <= value < WHOLE_BELOW:
        return int(value)
    return None


def is_plain_text(text: str, most: int) -> bool:
    """Whether the text may go to a terminal and into a table: short, not empty, no control characters."""
    return 0 < len(text) <= most and text.isprintable()
