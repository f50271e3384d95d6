"""A folder for what a command needs while it runs."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from host_tools.errors import LimpetError


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A folder that only we may read, and that goes with the `with` block.

    Raises LimpetError when there is nowhere to make one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=f"limpet-{purpose}-")
    except OSError as error:
        raise LimpetError(
            f"No temporary folder can be made ({error.strerror}): make room, or name a folder that you may "
            "write to by TMPDIR."
        ) from None
    with folder as path:
        yield Path(path)
