"""The table of mutants and catchers, and its place in a page."""

from collections.abc import Sequence
from pathlib import Path

from host_tools.errors import LimpetError
from host_tools.hil.mutate.verdict import Verdict

BEGIN, END = "<!-- mutants -->", "<!-- /mutants -->"


def table(verdicts: Sequence[Verdict]) -> str:
    """The table in Markdown, with a sentence before it. It has no date: it changes when the suite does."""
    caught = sum(each.caught is not None for each in verdicts)
    rows = [f"| `{each.mutant.name}` | {_cell(each.mutant.breaks)} | {_catcher(each)} |" for each in verdicts]
    head = [f"{caught} of {len(verdicts)} mutants are caught.", "", "| mutant | breaks | caught by |"]
    return "\n".join([*head, "| --- | --- | --- |", *rows])


def placed(page: str, text: str) -> str:
    """The page with this text between the two markers. Raises ValueError when it does not have them."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"it has no lines '{BEGIN}' and '{END}'")
    return f"{head}{BEGIN}\n{text}\n{END}{tail}"


def write(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Put the table into a page. Raises LimpetError when that cannot be."""
    page = read_page(path)
    try:
        path.write_text(placed(page, table(verdicts)), encoding="utf-8")
    except OSError as error:
        raise LimpetError(f"{path} cannot be written ({error.strerror}): name another page.") from None


def read_page(path: Path) -> str:
    """The page that is to have the table. Raises LimpetError when it has no place for it."""
    try:
        page = path.read_text(encoding="utf-8")
        placed(page, "")
    except OSError as error:
        raise LimpetError(f"{path} cannot be read ({error.strerror}): name another page.") from None
    except ValueError as error:
        raise LimpetError(f"{path} has no place for the table: {error}.") from None
    return page


def _catcher(verdict: Verdict) -> str:
    if verdict.caught is None:
        return "**none**" if verdict.survived else "no verdict"
    file, _, test = verdict.caught.partition("::")
    return f"`{Path(file).name}` `{_cell(test)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
