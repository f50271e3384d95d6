"""Files of images: reading them whole, with a sentence for all that people name by mistake."""

from pathlib import Path

from host_tools.image.errors import ImageError

MOST_BYTES = 128 * 1024 * 1024
"""The largest flash that the header of an image can tell."""


def read(path: Path, what: str) -> bytes:
    """The bytes of the file `path`, which should be `what`. Raises ImageError."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder: name the {what} in it.")
        if not path.exists():
            raise ImageError(f"{path} does not exist: name the {what}.")
        if not path.is_file():
            raise ImageError(f"{path} is not a file: name the {what}.")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ImageError(
            f"{path} cannot be read ({error.strerror}): let it be read, or name another."
        ) from None
    if len(data) > MOST_BYTES:
        raise ImageError(f"{path} has more than 128 MiB, so it is no {what}: name the right one.")
    return data
