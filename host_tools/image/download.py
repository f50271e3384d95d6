"""One file over HTTP, into memory: with deadlines, a limit, and a few words for what goes wrong."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import host_tools

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

Told = Callable[[int, int | None], None]
"""Told how many bytes have arrived, and how many there will be, if that is known."""

_SILENCE_S = 30.0  # until an answer, and between two pieces of it
_WHOLE_S = 900.0
_PIECE = 65536


class DownloadError(Exception):
    """The reason in a few words, without the address: that may hold a password."""


def host(url: str) -> str:
    """Where the URL leads, without what else is in it."""
    try:
        return urlsplit(url).hostname or "the site"
    except ValueError:
        return "the site"


def get(url: str, most: int, progress: Told) -> bytes:
    """The file at `url`, of at most `most` bytes. Raises DownloadError."""
    # They take a quarter of a second to import.
    import requests
    import urllib3

    try:
        with requests.get(
            url,
            stream=True,
            timeout=_SILENCE_S,
            headers={"Accept-Encoding": "identity", "User-Agent": f"limpet/{host_tools.version()}"},
        ) as answer:
            if answer.status_code != requests.codes.ok:
                raise DownloadError(f"which answers {answer.status_code} {answer.reason or ''}".rstrip())
            return _body(answer.raw, _length(answer.headers.get("Content-Length")), most, progress)
    except requests.exceptions.SSLError:
        raise DownloadError("whose certificate this machine does not trust") from None
    except requests.exceptions.TooManyRedirects:
        raise DownloadError("which redirects for ever") from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise DownloadError(f"which does not answer within {_SILENCE_S:.0f} s") from None
    except urllib3.exceptions.ProtocolError:
        raise DownloadError("which ended the transfer too early") from None
    except requests.exceptions.ConnectionError:
        raise DownloadError("which is not within reach") from None
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
        raise DownloadError("whose address makes no sense") from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise DownloadError(f"whose answer makes no sense ({type(error).__name__})") from None


def _length(said: str | None) -> int | None:
    return int(said) if said is not None and said.isdecimal() else None


def _body(raw: "BaseHTTPResponse", total: int | None, most: int, progress: Told) -> bytes:
    if total is not None and total > most:
        raise DownloadError(f"whose file has {total} bytes, more than the flash")
    data = bytearray()
    end = time.monotonic() + _WHOLE_S
    progress(0, total)
    # What has arrived, at once: a whole piece may be long in coming, and the deadline would wait for it.
    while piece := raw.read1(_PIECE, decode_content=False):
        data += piece
        if len(data) > most:
            raise DownloadError(f"whose file is larger than the flash, {most} bytes")
        if time.monotonic() > end:
            raise DownloadError(f"which takes more than {_WHOLE_S / 60:.0f} minutes")
        progress(len(data), total)
    if total is not None and len(data) < total:
        raise DownloadError(f"which sent {len(data)} bytes instead of {total}")
    return bytes(data)
