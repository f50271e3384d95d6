"""The password of a rig's Wi-Fi, which stands in a file of its own."""

import os
import stat
from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from host_tools.errors import LimpetError
from host_tools.hil.rigs.model import WifiSpec
from host_tools.settings import fields

_MOST = 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def password(wifi: WifiSpec) -> SecretStr | None:
    """What the file of `wifi` holds, its line's end left out; None for an open network.

    Raises LimpetError when it cannot be read, others than its owner can, or what is in it is no password.
    """
    path = wifi.password_file
    if path is None:
        return None
    text = _content(path)
    try:
        return SecretStr(fields.password(text.removesuffix("\n").removesuffix("\r")))
    except PydanticCustomError as error:
        raise LimpetError(f"{path}: {error.message()}") from None


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise LimpetError(
            f"The Wi-Fi's password cannot be read from {path} ({why}): write it there as one line, and "
            "chmod 600 the file."
        ) from None
    if mode & _OTHERS:
        raise LimpetError(f"{path} holds a password, and others can read or change it: chmod 600 {path}.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise LimpetError(f"{path}: this is not text. Write the password there as one line.") from None
