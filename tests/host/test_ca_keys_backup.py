"""The backup of an authority's folder: sealed, read back, restored whole or not at all."""

import os
import random
import tarfile
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from host_tools.ca import keys, passphrase, scrypt, sealed
from host_tools.ca.backup import Backup, restore_backup, write_backup
from host_tools.ca.passphrase import Unlock
from host_tools.errors import LimpetError, RefusedError
from tests.host.soft_token import PIN, make_token, module, softhsm, uri

SECRET = "correct horse battery staple"
PUBLIC = b"-----BEGIN CERTIFICATE-----\n" * 40


def told(*lines: str) -> Unlock:
    reader, writer = os.pipe()
    os.write(writer, "".join(f"{line}\n" for line in lines).encode())
    os.close(writer)
    return passphrase.from_descriptor(reader, "the authority in ca")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As an authority's, with one key, a ledger of 3 MB, and what does not belong into a backup."""
    ca = tmp_path_factory.mktemp("project") / "ca"
    (ca / "issued").mkdir(parents=True)
    (ca / "former").mkdir()
    keys.create(ca / "root.key", told(SECRET))
    (ca / "former" / "1f.key").write_bytes((ca / "root.key").read_bytes()[:50])  # its passphrase was another
    (ca / "ledger.jsonl").write_bytes(random.Random(1).randbytes(3 << 20))
    (ca / "issued" / "0a.crt").write_bytes(PUBLIC)
    (ca / "empty").touch()
    (ca / ".lock").touch()
    (ca / ".root.key.x7d").write_bytes(b"half written")
    return ca


@pytest.fixture(scope="module")
def backup(folder: Path) -> Path:
    file = folder.parent / "ca.backup"
    written = write_backup(folder, file, told(SECRET))
    assert written == Backup(5, sum(map(len, contents(folder).values())), ())
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_what_was_backed_up_comes_back(folder: Path, backup: Path, tmp_path: Path) -> None:
    restored = tmp_path / "deep" / "down" / "ca"
    assert restore_backup(backup, restored, told(SECRET)).files == 5
    assert contents(restored) == contents(folder)
    assert keys.load(restored / "root.key", told(SECRET)).key_size == 256
    modes = {path.stat().st_mode & 0o777 for path in restored.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (restored, restored / "issued")} == {0o700}
    assert [path.name for path in restored.parent.iterdir()] == ["ca"]
    (tmp_path / "empty").mkdir()
    restore_backup(backup, tmp_path / "empty", told(SECRET))
    assert contents(tmp_path / "empty") == contents(folder)


@pytest.mark.security(2, "IEC 62443-4-2 CR 4.1", "IEC 62443-4-2 CR 7.3")
def test_a_backup_shows_nothing_of_what_is_in_it(folder: Path, backup: Path) -> None:
    """The backup of the authority is one file of mode 0600 in which no key and no file name shows."""
    data = backup.read_bytes()
    assert backup.stat().st_mode & 0o777 == 0o600
    for hidden in (b"PRIVATE KEY", b"CERTIFICATE", b"root.key", b"ledger", b"ustar", SECRET.encode()):
        assert hidden not in data
    assert data.startswith(b"limpet CA backup 1\n")
    assert {path.name for path in backup.parent.iterdir()} == {"ca", "ca.backup"}


def test_two_backups_of_one_folder_share_nothing(folder: Path, backup: Path, tmp_path: Path) -> None:
    write_backup(folder, tmp_path / "other", told(SECRET))
    one, other = backup.read_bytes(), (tmp_path / "other").read_bytes()
    assert sum(a == b for a, b in zip(one[100:20000], other[100:20000], strict=True)) < 200


def test_a_wrong_passphrase_opens_nothing(backup: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"^That is not the passphrase of .*ca\.backup: try again\.$"):
        restore_backup(backup, tmp_path / "ca", told("not the right one"))
    with pytest.raises(RefusedError, match=r"^That is not the passphrase of .*root\.key: try again\.$"):
        write_backup(folder, tmp_path / "new", told("not the right one"))
    assert not list(tmp_path.iterdir())


@pytest.mark.security(12, "IEC 62443-4-2 CR 3.4")
def test_a_damaged_backup_restores_nothing(backup: Path, tmp_path: Path) -> None:
    """A backup that is cut off, changed in one bit, or no backup at all restores nothing, and is told."""
    whole = backup.read_bytes()
    file = tmp_path / "damaged"
    head = len(b"limpet CA backup 1\n") + scrypt.SALT_SIZE + 7 + 16 + 8
    piece = sealed.PIECE + 16
    no_backup = "is not a backup of an authority, or its beginning is damaged: take another one."
    damaged = "is damaged or cut off: take another backup."
    cases: dict[str, tuple[bytes, str]] = {
        "empty": (b"", no_backup),
        "other file": (b"PK\x03\x04" * 100, no_backup),
        "later format": (whole.replace(b"backup 1", b"backup 2", 1), no_backup),
        "salt": (flipped(whole, 20), no_backup),
        "end of the head": (flipped(whole, head - 1), no_backup),
        "no piece": (whole[:head], damaged),
        "first piece": (flipped(whole, head), damaged),
        "middle": (flipped(whole, head + piece + 7), damaged),
        "last byte": (flipped(whole, len(whole) - 1), damaged),
        "cut by one": (whole[:-1], damaged),
        "cut between pieces": (whole[: head + 2 * piece], damaged),
        "piece left out": (whole[: head + piece] + whole[head + 2 * piece :], damaged),
        "pieces swapped": (
            whole[:head]
            + whole[head + piece : head + 2 * piece]
            + whole[head : head + piece]
            + whole[head + 2 * piece :],
            damaged,
        ),
        "more behind it": (whole + b"\0", damaged),
    }
    for name, (data, sentence) in cases.items():
        file.write_bytes(data)
        with pytest.raises(LimpetError) as caught:
            restore_backup(file, tmp_path / "ca", told(SECRET))
        assert str(caught.value) == f"{file} {sentence}", name
        assert [path.name for path in tmp_path.iterdir()] == ["damaged"], name


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def test_nothing_is_written_over(folder: Path, backup: Path, tmp_path: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(RefusedError, match="is there already: choose another name"):
        write_backup(folder, backup, told(SECRET))
    assert backup.read_bytes() == before
    with pytest.raises(RefusedError, match=r"is inside .*, and would be lost with it"):
        write_backup(folder, folder / "issued" / "backup", told(SECRET))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    for taken in (tmp_path / "full", tmp_path / "full" / "note"):
        with pytest.raises(RefusedError, match="is not empty: restore the backup into a new folder"):
            restore_backup(backup, taken, told(SECRET))


def test_what_cannot_be_read_or_written(folder: Path, backup: Path, tmp_path: Path) -> None:
    with pytest.raises(LimpetError, match=r"^There is no authority in .*: make one with 'limpet ca init'"):
        write_backup(tmp_path, tmp_path.parent / "b", told(SECRET))
    with pytest.raises(LimpetError, match=r"^.*/none/b cannot be written: No such file or directory"):
        write_backup(folder, tmp_path / "none" / "b", told(SECRET))
    with pytest.raises(LimpetError, match=r"cannot be restored, .*/none: No such file or directory"):
        restore_backup(tmp_path / "none", tmp_path / "ca", told(SECRET))
    (tmp_path / "file").touch()
    with pytest.raises(LimpetError, match=r"cannot be restored, .*: (Not a directory|File exists)"):
        restore_backup(backup, tmp_path / "file" / "ca", told(SECRET))
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "root.key").symlink_to(folder / "root.key")
    with pytest.raises(LimpetError, match=r"root\.key is neither file nor folder"):
        write_backup(strange, tmp_path / "b", told(SECRET))


def test_a_disk_that_keeps_something_else_is_noticed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sealed.SealedReader.read

    def rotten(self: sealed.SealedReader, size: int) -> bytes:
        return real(self, size).replace(PUBLIC[:20], b"x" * 20)

    monkeypatch.setattr(sealed.SealedReader, "read", rotten)
    with pytest.raises(LimpetError, match="did not read back as it was written: see to that disk"):
        write_backup(folder, tmp_path / "b", told(SECRET))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["../up", "/abs", "link", "folder"])
def test_names_that_lead_elsewhere_are_refused(kind: str, tmp_path: Path) -> None:
    """Whoever has the passphrase could make such a backup; it must not write outside of the folder either."""
    file = tmp_path / "b"
    seal = sealed.Seal.new(b"limpet CA backup 1\n", SECRET.encode())
    with file.open("wb") as out:
        writer = sealed.SealedWriter(out, seal)
        with tarfile.open(fileobj=cast("BinaryIO", writer), mode="w|") as archive:
            entry = tarfile.TarInfo(kind)
            entry.type = {"link": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE}.get(kind, tarfile.REGTYPE)
            entry.linkname = "/etc/passwd" if kind == "link" else ""
            archive.addfile(entry)
        writer.close()
    with pytest.raises(LimpetError, match="is damaged or cut off"):
        restore_backup(file, tmp_path / "deep" / "ca", told(SECRET))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "deep"]


@pytest.mark.skipif(module() is None, reason="SoftHSM is not installed (apt: softhsm2)")
def test_keys_in_a_token_are_not_in_the_backup_and_it_says_so(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    ca.mkdir()
    (tmp_path / "softhsm").mkdir()
    with softhsm(tmp_path / "softhsm"):
        make_token("plant")
        unlock = told(PIN, SECRET)
        keys.create(ca / "root.key", unlock, uri("plant"))
        written = write_backup(ca, tmp_path / "b", unlock)
        assert written.in_token == ("root.key",)
        restored = restore_backup(tmp_path / "b", tmp_path / "new", told(SECRET))
        assert restored.in_token == ("root.key",)
        again = keys.load(tmp_path / "new" / "root.key", told(PIN))
        assert again.public_key() == keys.load(ca / "root.key", told(PIN)).public_key()
        with pytest.raises(RefusedError, match="The new passphrase is too weak"):
            write_backup(ca, tmp_path / "c", told(PIN))
        # With one key in a file, the passphrase is that file's.
        keys.create(ca / "issuing.key", told(SECRET))
        with pytest.raises(RefusedError, match=r"That is not the passphrase of .*issuing\.key"):
            write_backup(ca, tmp_path / "c", told("another one, and strong"))
        assert write_backup(ca, tmp_path / "c", told(SECRET)).in_token == ("root.key",)
