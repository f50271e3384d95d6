"""TOML files that users write: read, checked by pydantic models, and answered in plain English.

Every problem of a file is told at once, one line each: file as the user typed it, line, key, what was
found, what was expected. The same goes for node files (`host_tools.settings`) and board files
(`host_tools.boards`).
"""

from host_tools.userfile.check import check_table, not_a_table, salvage, wrong
from host_tools.userfile.problems import KeyPath, Problem, UserFileError, describe, did_you_mean, problem
from host_tools.userfile.text import UserFile, read

__all__ = [
    "KeyPath",
    "Problem",
    "UserFile",
    "UserFileError",
    "check_table",
    "describe",
    "did_you_mean",
    "not_a_table",
    "problem",
    "read",
    "salvage",
    "wrong",
]
