"""PKCS#11 tokens by SoftHSM, in a folder of the test's own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

PIN = "271828"
_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)


def module() -> str | None:
    """The path of SoftHSM's library, if it is installed with its tool."""
    if not shutil.which("softhsm2-util"):
        return None
    return next((each for each in _MODULES if Path(each).exists()), None)


@contextmanager
def softhsm(folder: Path) -> Iterator[None]:
    """SoftHSM for this process and those it starts, with its tokens in `folder`.

    Its library knows one set of tokens at a time: within the block make all tokens first.
    """
    import pkcs11

    (folder / "tokens").mkdir()
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(conf)
    try:
        yield
    finally:
        pkcs11.lib(str(module())).finalize()  # the next one to use it reads its own configuration
        if before is None:
            del os.environ["SOFTHSM2_CONF"]
        else:
            os.environ["SOFTHSM2_CONF"] = before


def make_token(label: str) -> None:
    """A new token with the PIN."""
    words = ["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN]
    subprocess.run(["softhsm2-util", *words], capture_output=True, timeout=60, check=True)


def uri(label: str, **more: str) -> str:
    """The URI of that token."""
    path = "".join(f";{name}={quote(value)}" for name, value in more.items())
    return f"pkcs11:token={quote(label)}{path}?module-path={module()}"
