"""Guards: each refuses what it must before anything is erased, and lets pass what it must."""

from dataclasses import replace
from pathlib import Path

import pytest

from host_tools import boards, partitions
from host_tools.flashing import source
from host_tools.flashing.guards import Allowed, Found, refusal
from host_tools.fleet import Fleet
from host_tools.virtual.rom.efuses import Efuses
from tests.host.flashing import NEW_SAYS, OLD_SAYS, bench, composed, expected, flash, used
from tests.host.in_process import limpet
from tests.host.shell import refused
from tests.host.virtual_rig import MAC

S3 = "esp32s3_generic"
BOARD = boards.load_board("virtual")
GOOD = Found("ESP32", "24:0a:c4:00:00:01", BOARD.flash_size, 300, False, False, False)


def test_a_board_as_it_should_be() -> None:
    assert refusal(GOOD, Allowed(BOARD)) is None
    assert refusal(GOOD, Allowed(BOARD, {GOOD.mac}, (0, 399)), recorded="virtual") is None
    assert refusal(replace(GOOD, flash_size=2 * BOARD.flash_size), Allowed(BOARD)) is None
    for revisions in ((300, 300), (0, 0xFFFF)):
        assert refusal(GOOD, Allowed(BOARD, revisions=revisions)) is None


@pytest.mark.parametrize(
    ("found", "allowed", "recorded", "seen"),
    [
        (
            replace(GOOD, chip="ESP32-S3"),
            Allowed(BOARD),
            None,
            "its chip is an ESP32-S3, but board 'virtual'",
        ),
        (
            replace(GOOD, flash_size=0x200000),
            Allowed(BOARD),
            None,
            "its flash has 2 MiB, but board 'virtual' has 4",
        ),
        (replace(GOOD, flash_size=0), Allowed(BOARD), None, "its flash chip does not answer"),
        (
            GOOD,
            Allowed(BOARD, {"24:0a:c4:00:00:02"}),
            None,
            "its MAC address is 24:0a:c4:00:00:01, not 24:0a",
        ),
        (GOOD, Allowed(BOARD), "lolin_d32", "has 24:0a:c4:00:00:01 as a board 'lolin_d32', not 'virtual'"),
        (replace(GOOD, encrypted=True), Allowed(BOARD), None, "its flash encryption is on"),
        (replace(GOOD, secure_boot=True), Allowed(BOARD), None, "its secure boot is on"),
        (replace(GOOD, secure_download=True), Allowed(BOARD), None, "its secure download mode is on"),
        (
            GOOD,
            Allowed(BOARD, revisions=(301, 399)),
            None,
            "has revision 3.0, but the image needs at least 3.1",
        ),
        (
            GOOD,
            Allowed(BOARD, revisions=(0, 299)),
            None,
            "has revision 3.0, but the image needs at most 2.99",
        ),
    ],
)
def test_a_board_as_it_should_not_be(found: Found, allowed: Allowed, recorded: str | None, seen: str) -> None:
    reason = refusal(found, allowed, recorded)
    assert reason and seen in reason


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "virtual.bin"
    path.write_bytes(composed())
    return path


def test_every_guard_on_boards_side_by_side(tmp_path: Path, image_file: Path) -> None:
    """Boards that must not be flashed keep all their bytes and start again; the others are flashed."""
    before = used()
    with bench(tmp_path) as put:
        good = put(before)
        larger = put(before + b"\xff" * len(before))
        fresh = put()
        forbidden = {
            "its chip is an ESP32-S3, but board 'virtual' has an ESP32": put(used(S3), kind=S3),
            "its flash has 2 MiB, but board 'virtual' has 4 MiB": put(before[: len(before) // 2]),
            "its flash encryption is on": put(before, efuses=Efuses(flash_encryption=True)),
            "its secure boot is on": put(before, efuses=Efuses(secure_boot=True)),
            "as a board 'lolin_d32', not 'virtual'": (recorded := put(before)),
            "its MAC address is": (other := put(before)),
        }
        rigs = [good, larger, fresh, *forbidden.values()]
        with Fleet(tmp_path / "fleet.db") as fleet:
            fleet.record(recorded.mac, "lolin_d32", "")
            fleet.record(good.mac, "virtual", "")
        macs = [
            word for rig in rigs if rig is not other for word in ("--mac", rig.mac.upper().replace(":", "-"))
        ]
        held = {rig: rig.flash.read_bytes() for rig in forbidden.values()}
        done = flash([rig.url for rig in rigs], image_file, *macs, "--fleet", tmp_path / "fleet.db")

        assert done.codes == [0, 0, 0] + [4] * 6
        assert done.code == 4
        for sentence, board, rig in zip(forbidden, done.boards[3:], forbidden.values(), strict=True):
            assert sentence in board["error"]
            assert board["error"] in done.err
            assert rig.flash.read_bytes() == held[rig]
            assert board["written"] == 0
        for rig in (good, larger):
            assert rig.flash.read_bytes()[: len(before)] == expected(before, composed())
            rig.says(NEW_SAYS)
        assert fresh.flash.read_bytes() == expected(b"\xff" * len(before), composed())
        recorded.says(OLD_SAYS, times=2)  # it runs again
        with Fleet(tmp_path / "fleet.db") as fleet:
            assert [fleet.board_of(rig.mac) for rig in (good, fresh, recorded, other)] == [
                "virtual",
                "virtual",
                "lolin_d32",
                None,
            ]


def test_guards_of_newer_chips(tmp_path: Path) -> None:
    """Their security is told by a command of its own, and with secure download nothing else is."""
    image_file = tmp_path / "s3.bin"
    image_file.write_bytes(composed(S3))
    with bench(tmp_path) as put:
        rigs = [
            put(kind=S3),
            put(kind=S3, efuses=Efuses(flash_encryption=True)),
            put(kind=S3, efuses=Efuses(secure_boot=True)),
            put(kind=S3, efuses=Efuses(secure_download=True)),
            put(kind="esp32c3_generic"),
        ]
        done = flash([rig.url for rig in rigs], image_file, board=S3)
        assert done.codes == [0, 4, 4, 4, 4]
        seen = ["flash encryption is on", "secure boot is on", "secure download mode is on"]
        for sentence, board in zip([*seen, "has an ESP32-S3"], done.boards[1:], strict=True):
            assert sentence in board["error"]
        assert [board["chip"] for board in done.boards] == ["ESP32-S3"] * 4 + ["ESP32-C3"]
        assert done.boards[3]["mac"] is None
        assert done.boards[4]["mac"] == rigs[4].mac
        for rig in rigs[1:]:
            assert not rig.flash.read_bytes().strip(b"\xff")


def test_two_ports_of_one_board(tmp_path: Path, image_file: Path) -> None:
    """As with a board whose UART and whose own USB are plugged in: one of them is enough."""
    with bench(tmp_path) as put:
        rigs = [put(mac=MAC), put(mac=MAC)]
        done = flash([rig.url for rig in rigs], image_file)
        assert (done.code, sorted(done.codes)) == (4, [0, 4])
        flashed, other = rigs if done.codes[0] == 0 else rigs[::-1]
        assert done.report["error"].endswith(f"as well ({flashed.mac}): name each board once.")
        assert flashed.flash.read_bytes() == expected(b"\xff" * BOARD.flash_size, composed())
        assert not other.flash.read_bytes().strip(b"\xff")


# The image itself, before any board is touched


def told(tmp_path: Path, content: bytes, board: str = "virtual") -> tuple[int, str]:
    file = tmp_path / "image"
    file.write_bytes(content)
    done = limpet("flash", "--board", board, "--port", "/dev/none", "--image", file)
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    return done.code, done.err.replace(str(file), "IMAGE")


def test_images_that_no_board_gets(tmp_path: Path) -> None:
    good = composed()
    table = partitions.TABLE_OFFSET
    vfs = partitions.find(BOARD.partition_table(), "vfs")
    broken = bytearray(good)
    broken[vfs.offset : vfs.offset + 0x2000] = bytes(0x2000)
    half = bytearray(good)
    half[0x10010] ^= 1
    for content, code, sentence in [
        (
            composed(S3),
            4,
            "IMAGE is for the ESP32-S3, but board 'virtual' has an ESP32: name another image or --board.",
        ),
        (b"<!DOCTYPE html><title>404</title>", 1, "IMAGE is no flash image but an HTML page"),
        (b"", 1, "IMAGE is no flash image but empty"),
        (b"\xff" * len(good), 1, "IMAGE is no flash image but blank"),
        (good[:-1], 1, f"IMAGE has {len(good) - 1} bytes, but the flash of 'virtual' has {len(good)}"),
        (good[:table] + b"\xff" * 0x1000 + good[table + 0x1000 :], 1, "IMAGE cannot boot: "),
        (b"\xff" * 0x8000 + good[0x8000:], 1, "IMAGE has no bootloader that starts (it begins with 0xff"),
        (bytes(half), 1, "IMAGE has no program that starts (its SHA-256 does not fit"),
        (bytes(broken), 1, "IMAGE has a damaged littlefs in partition 'vfs'"),
    ]:
        found = told(tmp_path, content)
        assert found[0] == code, found
        assert found[1].startswith(f"limpet: {sentence}"), found
    smaller = BOARD.partition_table()[:-1]
    other = good[:table] + partitions.encode(smaller).ljust(0x1000, b"\xff") + good[table + 0x1000 :]
    assert told(tmp_path, other)[1].startswith("limpet: IMAGE has other partitions than board 'virtual'")


def test_the_image_is_known_by_its_revisions_and_its_firmware() -> None:
    image = source.checked(composed(), "it", BOARD)
    assert (image.has_firmware, image.revisions) == (True, (0, 0xFFFF))
    needs = bytearray(composed())
    needs[0x1000 + 15 : 0x1000 + 19] = b"\x2c\x01\x8f\x01"
    assert source._revisions(bytes(needs[0x1000:0x8000])) == (300, 399)


def test_no_such_file_and_no_such_board(tmp_path: Path) -> None:
    done = limpet("flash", "--board", "virtual", "--port", "/dev/none", "--image", tmp_path / "none")
    refused(done, f"{tmp_path / 'none'} does not exist: name the flash image.")
    done = limpet("flash", "--board", "virtua", "--port", "/dev/none")
    assert (done.code, "Did you mean 'virtual'?" in done.err) == (2, True)
