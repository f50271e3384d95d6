"""Pinned parts: fetched from an index on loopback, checked, cached, refused when they are not right."""

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from host_tools import parts
from host_tools.parts import Part, PartError, Sdist, Wheel

CONTENT = b"answer = 42\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sdist(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = sdist({"wanted-1.0/pkg/mod.py": CONTENT, "wanted-1.0/other.py": b"", "../escape.py": b"evil"})
SDIST = Sdist("wanted", "1.0", sha256(ARCHIVE))
PART = Part("wanted", "1.0", sha256(ARCHIVE), "pkg/mod.py", sha256(CONTENT))


@dataclass
class Index:
    """A package index: a folder that a web server on loopback serves, and the paths it was asked for."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def publish(self, archive: bytes, name: str = "wanted-1.0.tar.gz", digest: str = "") -> None:
        page = self.folder / "simple" / "wanted" / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(archive)
        page.write_text(f'<a href="../../{name}#sha256={digest or sha256(archive)}">{name}</a>')


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, index: Index, *args: object) -> None:
        self.index = index
        super().__init__(*args, directory=str(index.folder))  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        self.index.asked.append(self.path)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    (tmp_path / "index").mkdir()
    index = Index(tmp_path / "index")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, index))
    index.url = f"http://127.0.0.1:{server.server_port}/simple/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield index
    server.shutdown()
    thread.join()
    server.server_close()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fetch_gives_the_member_alone_and_says_so_once(index: Index, tmp_path: Path) -> None:
    index.publish(ARCHIVE)
    said: list[str] = []
    path = parts.fetch(PART, said.append)
    assert path.read_bytes() == CONTENT
    assert files_below(tmp_path / "cache") == ["limpet/parts/wanted-1.0/pkg/mod.py"]
    assert files_below(tmp_path / "index") == ["simple/wanted/index.html", "wanted-1.0.tar.gz"]
    assert said == ["Fetching wanted 1.0, once."]


def test_a_good_cache_entry_needs_no_network(index: Index) -> None:
    index.publish(ARCHIVE)
    path = parts.fetch(PART)
    asked = list(index.asked)
    assert asked
    said: list[str] = []
    assert parts.fetch(PART, said.append) == path
    assert index.asked == asked
    assert said == []


def test_a_whole_distribution_is_kept_as_it_came(index: Index, tmp_path: Path) -> None:
    index.publish(ARCHIVE)
    path = parts.fetch_sdist(SDIST)
    assert path.read_bytes() == ARCHIVE
    assert files_below(tmp_path / "cache") == ["limpet/parts/sdists/wanted-1.0.tar.gz"]
    path.write_bytes(ARCHIVE[:-1])
    assert parts.fetch_sdist(SDIST).read_bytes() == ARCHIVE
    asked = list(index.asked)
    assert parts.fetch_sdist(SDIST) == path
    assert index.asked == asked


def wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


ZIP = wheel({"pkg/mod.bin": CONTENT, "pkg/other.bin": b"other", "../escape.py": b"evil"})
WHEEL = Wheel("wanted", "1.0", sha256(ZIP))
WHEEL_NAME = "wanted-1.0-py3-none-any.whl"


def test_a_wheel_is_fetched_once_for_all_its_files(index: Index, tmp_path: Path) -> None:
    index.publish(ZIP, WHEEL_NAME)
    said: list[str] = []
    one = parts.fetch_file(WHEEL, "pkg/mod.bin", sha256(CONTENT), said.append)
    asked = list(index.asked)
    other = parts.fetch_file(WHEEL, "pkg/other.bin", sha256(b"other"), said.append)
    assert (one.read_bytes(), other.read_bytes()) == (CONTENT, b"other")
    assert (index.asked, said) == (asked, ["Fetching wanted 1.0, once."])
    one.write_bytes(b"damaged")
    assert parts.fetch_file(WHEEL, "pkg/mod.bin", sha256(CONTENT)).read_bytes() == CONTENT
    assert index.asked == asked
    cached = ["parts/wanted-1.0/pkg/mod.bin", "parts/wanted-1.0/pkg/other.bin", "parts/wheels/wanted-1.0.whl"]
    assert files_below(tmp_path / "cache" / "limpet") == cached


@pytest.mark.parametrize(
    ("member", "digest", "sentence"),
    [
        ("pkg/none.bin", sha256(b""), r"wanted-1\.0 has no readable pkg/none\.bin; its pin is wrong\."),
        (
            "pkg/mod.bin",
            sha256(b""),
            r"pkg/mod\.bin of wanted-1\.0 is not the pinned one; its pin is wrong\.",
        ),
    ],
)
def test_a_wrong_pin_of_a_wheels_file(index: Index, member: str, digest: str, sentence: str) -> None:
    index.publish(ZIP, WHEEL_NAME)
    with pytest.raises(PartError, match=sentence):
        parts.fetch_file(WHEEL, member, digest)


def test_an_index_with_another_wheel_or_none(index: Index, tmp_path: Path) -> None:
    index.publish(wheel({"pkg/mod.bin": b"tampered"}), WHEEL_NAME, digest=sha256(ZIP))
    with pytest.raises(PartError, match=r"gave another wanted 1\.0 than the pinned one"):
        parts.fetch_file(WHEEL, "pkg/mod.bin", sha256(CONTENT))
    assert files_below(tmp_path / "cache") == []
    index.publish(ARCHIVE)
    with pytest.raises(PartError, match=r"does not have wanted 1\.0; connect"):
        parts.fetch_file(WHEEL, "pkg/mod.bin", sha256(CONTENT))


def test_a_damaged_cache_entry_is_fetched_anew(index: Index) -> None:
    index.publish(ARCHIVE)
    path = parts.fetch(PART)
    path.write_bytes(CONTENT[:-1])
    assert parts.fetch(PART).read_bytes() == CONTENT


@pytest.mark.parametrize("honest_index", [True, False])
def test_another_archive_than_the_pinned_one_is_refused(
    index: Index, tmp_path: Path, honest_index: bool
) -> None:
    tampered = sdist({"wanted-1.0/pkg/mod.py": b"answer = 43\n"})
    index.publish(tampered, digest=sha256(tampered if honest_index else ARCHIVE))
    with pytest.raises(PartError, match=sha256(tampered)):
        parts.fetch(PART)
    with pytest.raises(PartError, match=sha256(tampered)):
        parts.fetch_sdist(SDIST)
    assert files_below(tmp_path / "cache") == []


def test_a_truncated_archive_is_refused(index: Index, tmp_path: Path) -> None:
    index.publish(ARCHIVE[:-7], digest=sha256(ARCHIVE))
    with pytest.raises(PartError, match=r"another wanted 1\.0 than the pinned one"):
        parts.fetch(PART)
    assert files_below(tmp_path / "cache") == []


@pytest.mark.parametrize(
    "wrong", [{"member": "pkg/none.py"}, {"member_sha256": sha256(b"")}, {"member": "pkg"}], ids=str
)
def test_a_wrong_pin_of_the_member_keeps_nothing(index: Index, tmp_path: Path, wrong: dict[str, str]) -> None:
    index.publish(ARCHIVE)
    with pytest.raises(PartError, match=r"pin in parts\.py is wrong"):
        parts.fetch(replace(PART, **wrong))
    assert files_below(tmp_path / "cache") == []


def test_an_index_without_the_version_or_the_project(index: Index) -> None:
    index.publish(ARCHIVE, name="wanted-0.9.tar.gz")
    with pytest.raises(PartError, match=r"does not have wanted 1\.0; connect"):
        parts.fetch(PART)
    with pytest.raises(PartError, match=r"does not have other; connect"):
        parts.fetch(replace(PART, project="other"))


@pytest.mark.parametrize("url", ["http://me:s3cr3t@127.0.0.1:1/simple/", "file:///s3cr3t", "no url"])
def test_offline_is_one_sentence_without_the_address(
    index: Index, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", url)
    with pytest.raises(PartError) as caught:
        parts.fetch(PART)
    text = str(caught.value)
    assert text.startswith("Cannot fetch wanted 1.0 from the package index (")
    assert "PIP_INDEX_URL" in text
    assert "s3cr3t" not in text
    assert caught.value.__suppress_context__


def test_a_cache_that_cannot_be_written(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.publish(ARCHIVE)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PartError, match=r"Cannot keep wanted in the cache folder: .*XDG_CACHE_HOME"):
        parts.fetch(PART)


def test_the_library_that_fetches_is_not_loaded_before() -> None:
    code = "import sys; from host_tools import parts; print('pypi_simple' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_index_of_pips_own_settings_is_used(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.publish(ARCHIVE)
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {index.url}\n")
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert parts.fetch(PART).read_bytes() == CONTENT
    assert "/simple/wanted/" in index.asked[0]


def test_umqtt_simple_is_a_folder_to_import_from() -> None:
    folder = parts.umqtt_simple()
    text = (folder / "umqtt" / "simple.py").read_text()
    assert "class MQTTClient" in text
    assert files_below(folder) == ["umqtt/simple.py"]


def test_weather_csv_has_the_recorded_hours() -> None:
    with parts.weather_csv().open(encoding="utf-8") as file:
        assert file.readline().startswith("origin,year,month,day,hour,temp,")
        assert sum(1 for _ in file) == 26115
