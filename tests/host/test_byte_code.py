"""Byte code that was compiled once is kept in the user's cache, and never taken for another."""

import hashlib
from pathlib import Path

import pytest

from host_tools import micropython
from host_tools.errors import LimpetError

NAME = "limpet/thing.py"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "thing.py"
    path.write_text("x = 1\n")
    return path


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "limpet" / "byte-code").iterdir())


def as_kept(code: bytes) -> bytes:
    return hashlib.sha256(code).digest() + code


def test_it_is_compiled_once(tmp_path: Path, source: Path) -> None:
    code = micropython.cross_compile(source, NAME)
    assert code.startswith(b"M\x06")
    [file] = kept(tmp_path)
    assert file.read_bytes() == as_kept(code)
    file.write_bytes(as_kept(b"from the cache"))
    assert micropython.cross_compile(source, NAME) == b"from the cache"


def test_another_text_name_or_compiler_is_another_module(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    micropython.cross_compile(source, NAME)
    [file] = kept(tmp_path)
    file.write_bytes(as_kept(b"from the cache"))
    assert b"other.py" in micropython.cross_compile(source, "limpet/other.py")
    with monkeypatch.context() as patch:
        patch.setattr(micropython, "_compiler", lambda: b"a newer mpy-cross")
        assert micropython.cross_compile(source, NAME).startswith(b"M\x06")
    assert micropython.cross_compile(source, NAME) == b"from the cache"
    source.write_text("x = 2\n")
    assert micropython.cross_compile(source, NAME).startswith(b"M\x06")


@pytest.mark.parametrize("damage", [b"", b"short", bytes(32) + b"M\x06", as_kept(b"M\x06 cut")[:-1]])
def test_what_is_damaged_is_made_anew(tmp_path: Path, source: Path, damage: bytes) -> None:
    code = micropython.cross_compile(source, NAME)
    [file] = kept(tmp_path)
    file.write_bytes(damage)
    assert micropython.cross_compile(source, NAME) == code
    assert file.read_bytes() == as_kept(code)


def test_without_a_cache_it_is_compiled_each_time(tmp_path: Path, source: Path) -> None:
    (tmp_path / "cache" / "limpet").mkdir(parents=True)
    (tmp_path / "cache" / "limpet" / "byte-code").write_text("a file where the folder should be")
    for _ in range(2):
        assert micropython.cross_compile(source, NAME).startswith(b"M\x06")
    (tmp_path / "cache" / "limpet" / "byte-code").unlink()
    (tmp_path / "cache" / "limpet").rmdir()
    (tmp_path / "cache" / "limpet").write_text("and no folder for the tools at all")
    assert micropython.cross_compile(source, NAME).startswith(b"M\x06")


def test_an_error_is_not_kept(tmp_path: Path, source: Path) -> None:
    source.write_text("x = (\n")
    for _ in range(2):
        with pytest.raises(LimpetError) as broken:
            micropython.cross_compile(source, NAME)
        assert str(broken.value) == f"{source}:2: SyntaxError: invalid syntax; mend it and try again."
