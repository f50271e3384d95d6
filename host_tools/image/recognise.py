"""What a file is that should have been an image: people mistake many things for one."""

_BEGINNINGS = (
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it"),
    (b"BZh", "a bzip2 archive", "unpack it"),
    (b"\xfd7zXZ", "an xz archive", "unpack it"),
    (b"UF2\n", "a UF2 file, for boards that flash like a USB stick", "take the .bin file"),
    (b"\x7fELF", "an ELF file, for a debugger", "take the .bin file"),
    (b"\x00MSCOMPR", "a compressed file", "unpack it"),
    (b"\x89PNG", "a picture", "name the right file"),
    (b"%PDF", "a PDF document", "name the right file"),
    (b":10", "an Intel HEX file", "take the .bin file"),
)
_HTML = (b"<!doctype", b"<html", b"<?xml", b"<head")


def mistaken(data: bytes) -> tuple[str, str] | None:
    """What the bytes of a file show it to be ("an HTML page"), and what to do; None where they do not."""
    if not data:
        return "empty", "fetch it again"
    for beginning, what, remedy in _BEGINNINGS:
        if data.startswith(beginning):
            return what, remedy
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(_HTML):
        return "an HTML page, such as a web site's error message", "fetch the image itself"
    if len(data) == data.count(0xFF):
        return "blank, every byte is 0xFF", "name an image"
    if len(data) == data.count(0):
        return "nothing but zeros", "fetch it again"
    if _is_text(data[:512]):
        return "a text", "name an image"
    return None


def _is_text(data: bytes) -> bool:
    return all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in data)
