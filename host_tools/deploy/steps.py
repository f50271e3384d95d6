"""What a board's module `os` is told to do to a path."""

from collections.abc import Mapping

Step = tuple[str, str]
"""The name of a function, and a path."""


def discard(present: Mapping[str, str]) -> tuple[Step, ...]:
    """The steps that remove files and folders ("" for a digest), what is in a folder before the folder."""
    return tuple(("remove" if present[path] else "rmdir", path) for path in sorted(present, reverse=True))
