"""Flash encryption and secure boot: the plan, and its rehearsal on espefuse's virtual eFuses."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from host_tools.boards import CHIPS, known_boards, load_board
from host_tools.errors import LimpetError
from host_tools.esp.quiet import silence
from host_tools.secure.chips import LOCKS
from host_tools.secure.meaning import meaning
from host_tools.secure.plan import PORT, Command, Step, plan
from host_tools.secure.rehearse import Fuses, Rehearsed, rehearse
from tests.host.shell import limpet

# espefuse's own use of click.
pytestmark = pytest.mark.filterwarnings("ignore:'parser.OptionParser' is deprecated:DeprecationWarning")

KEYS = Path("secure-keys")
BOARDS = {"esp32": "esp32_generic", "esp32s3": "esp32s3_generic", "esp32c3": "xiao_esp32c3"}
BOARDS["esp32c6"] = "esp32c6_generic"
LAST = {"ENABLE_SECURITY_DOWNLOAD", "DIS_DOWNLOAD_MODE", "UART_DOWNLOAD_DIS"}


def burning(steps: tuple[Step, ...]) -> list[Command]:
    return [command for step in steps for command in step.commands if command.burns]


def steps_of(chip: str, **more: bool) -> tuple[Step, ...]:
    return plan(load_board(BOARDS[chip]), KEYS, **more)


def test_each_chip_has_its_plan() -> None:
    assert set(LOCKS) == set(CHIPS) == set(BOARDS)
    for name in known_boards():
        steps = plan(load_board(name), KEYS)
        assert steps and meaning(load_board(name))
        for step in steps:
            assert bool(step.forever) == any(command.burns for command in step.commands), step.title


@pytest.mark.parametrize("chip", BOARDS)
@pytest.mark.parametrize("no_download", [False, True])
def test_the_order_is_the_one_that_works(chip: str, no_download: bool) -> None:
    steps = steps_of(chip, no_download=no_download)
    commands = [command for step in steps for command in step.commands]
    at = {str(command): number for number, command in enumerate(commands)}

    def first(*words: str) -> int:
        return min(number for text, number in at.items() if all(word in text for word in words))

    hide, encrypt = first("burn-key", "flash-key.bin"), first("burn-efuse", "_CRYPT_CNT")
    write, digest = first("write-flash"), first("burn-key", "signing-digest.bin")
    on, protect, run = (
        first("burn-efuse", LOCKS[chip].boot_on[0][0]),
        first("write-protect-efuse"),
        first(" run"),
    )
    assert hide < encrypt < write < digest < on < protect < run
    last = burning(steps)[-1]
    assert (
        at[str(last)] > run
        and LAST & set(last.arguments)
        and not LAST & {word for command in burning(steps)[:-1] for word in command.arguments}
    )
    assert str(commands[-1]) == "rm secure-keys/flash-key.bin"
    wanted = {"esp32": "UART_DOWNLOAD_DIS"}.get(
        chip, "DIS_DOWNLOAD_MODE" if no_download else "ENABLE_SECURITY_DOWNLOAD"
    )
    assert last.arguments == (wanted, "1")


def test_every_command_asks_before_it_burns() -> None:
    for chip in BOARDS:
        for command in burning(steps_of(chip)):
            assert command.words[:5] == ("espefuse", "--chip", chip, "--port", PORT)
            assert not {"--do-not-confirm", "--force-write-always", "--no-read-protect"} & set(command.words)


def test_paths_and_offsets_are_those_of_the_board() -> None:
    steps = plan(load_board("esp32_generic"), Path("my keys"))
    lines = [str(command) for step in steps for command in step.commands]
    assert all(
        "my keys" in shlex.split(line)[-1] for line in lines if "'my keys/flash-key.bin'" in line[-30:]
    )
    assert "espsecure generate-flash-encryption-key 'my keys/flash-key.bin'" in lines
    write = next(line for line in lines if "write-flash" in line)
    assert write.split("write-flash ")[1] == (
        "0x1000 bootloader-encrypted.bin 0x8000 partition-table-encrypted.bin "
        "0x10000 micropython-encrypted.bin"
    )
    assert "--after no-reset" in write
    assert not any("--aes-xts" in line for line in lines)
    later = [str(command) for step in steps_of("esp32s3") for command in step.commands]
    assert sum("encrypt-flash-data --aes-xts" in line for line in later) == 3
    assert next(line for line in later if "write-flash" in line).split()[6] == "0x0"
    assert sum("sign-data" in line for line in later) == 2


@pytest.mark.parametrize("chip", BOARDS)
def test_every_efuse_of_the_plan_exists(chip: str) -> None:
    import espefuse  # type: ignore[import-untyped]

    silence()
    commands = espefuse.init_commands(chip=chip, virt=True)
    sizes = {each.name: each.bit_len for each in commands.efuses}
    for command in burning(steps_of(chip)):
        if command.verb == "burn-efuse":
            names, values = command.arguments[::2], command.arguments[1::2]
            for name, value in zip(names, values, strict=True):
                assert 0 < int(value) < 1 << sizes[name], name
        elif command.verb == "write-protect-efuse":
            assert set(command.arguments) <= set(sizes)


def rehearsed(chip: str, steps: tuple[Step, ...], folder: Path) -> list[Rehearsed]:
    return list(rehearse(chip, steps, folder))


def locked(fuses: Fuses, chip: str) -> Iterator[str]:
    """What is still open, as ESP-IDF's esp_secure_boot_cfg_verify_release_mode would find it."""
    locks = LOCKS[chip]
    encryption, digest = ("BLOCK1", "BLOCK2") if chip == "esp32" else ("BLOCK_KEY0", "BLOCK_KEY1")
    for name, value in locks.encryption_on + locks.boot_on + locks.download + locks.debug + locks.boot_paths:
        if fuses[name].value != value:
            yield name
    for block, readable in ((encryption, False), (digest, True)):
        if (fuses[block].readable, fuses[block].writeable) != (readable, False):
            yield block
    if fuses["RD_DIS"].writeable:
        yield "RD_DIS"


@pytest.mark.parametrize(
    "chip",
    [
        "esp32",
        pytest.param("esp32s3", marks=pytest.mark.soak),  # test_the_command_rehearses has it
        pytest.param("esp32c3", marks=pytest.mark.soak),
        pytest.param("esp32c6", marks=pytest.mark.soak),
    ],
)
def test_the_steps_lock_a_chip(chip: str, tmp_path: Path) -> None:
    done = rehearsed(chip, steps_of(chip), tmp_path)
    assert list(locked(done[0].before, chip)), "it was open"
    assert not list(locked(done[-1].after, chip))
    keys = tmp_path / KEYS
    assert {path.name: path.stat().st_mode & 0o777 for path in keys.iterdir()} == {
        "flash-key.bin": 0o600,
        "signing-key.pem": 0o600,
        "signing-digest.bin": 0o600,
    }
    digest = "BLOCK2" if chip == "esp32" else "BLOCK_KEY1"
    assert done[-1].after[digest].value in (
        (keys / "signing-digest.bin").read_bytes(),
        (keys / "signing-digest.bin").read_bytes()[::-1],
    )
    assert [bool(each.changed) for each in done] == [
        any(command.burns for command in each.step.commands) for each in done
    ]


def test_a_rehearsal_finds_a_plan_that_does_not_work(tmp_path: Path) -> None:
    (tmp_path / KEYS).mkdir()
    (tmp_path / KEYS / "flash-key.bin").write_bytes(bytes(range(32)))
    steps = [step for step in steps_of("esp32c3") if "key" not in step.title.lower() or "Burn" in step.title]
    key, protect = steps[1], next(step for step in steps if step.title == "Protect the settings")
    assert key.title == "Burn the flash encryption key"
    with pytest.raises(LimpetError, match=r"^Step 2, espefuse --chip esp32c3 .* burn-key BLOCK_KEY0 .*: "):
        rehearsed("esp32c3", (protect, key), tmp_path)
    (tmp_path / "efuses.bin").unlink()
    with pytest.raises(LimpetError, match=r"^Step 2, espefuse .*: "):
        rehearsed("esp32c3", (key, key), tmp_path)


def test_the_command_prints_the_plan() -> None:
    done = limpet("secure", "plan", "--board", "esp32c6_generic", "--keys", "safe place")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(
        "esp32c6_generic: flash encryption and secure boot on ESP32-C6\nNothing is burnt"
    )
    steps = plan(load_board("esp32c6_generic"), Path("safe place"))
    shown = [line.strip() for line in done.out.splitlines() if line.startswith("     ")]
    assert shown == [str(command) for step in steps for command in step.commands]
    assert done.out.count("gone for ever: ") == len([step for step in steps if step.forever])
    assert len(re.findall(r"^- ", done.out, re.MULTILINE)) == len(meaning(load_board("esp32c6_generic")))
    told = json.loads(
        limpet("secure", "plan", "--board", "esp32c6_generic", "--no-download-mode", "--json").out
    )
    assert (told["board"], told["chip"]) == ("esp32c6_generic", "esp32c6")
    assert told["steps"][-2]["commands"][0]["words"][-2:] == ["DIS_DOWNLOAD_MODE", "1"]
    assert told["steps"][2]["commands"][0]["burns"] is True


@pytest.mark.security(2, "IEC 62443-4-2 EDR 3.14", "ETSI EN 303 645 5.4-1")
def test_the_command_rehearses(tmp_path: Path) -> None:
    """The steps of the plan lock a chip: its flash key can be read by nobody, and no step shows it."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = limpet("secure", "rehearse", "--board", "esp32s3_generic", cwd=tmp_path, TMPDIR=str(temporary))
    assert (done.code, done.err) == (0, "")
    assert not list(temporary.iterdir()) and [path.name for path in tmp_path.iterdir()] == ["tmp"]
    for seen in (
        "BLOCK_KEY0: empty -> hidden, fixed",
        "SPI_BOOT_CRYPT_CNT: 0x0 -> 0x7",
        "6. Sign, encrypt and write your build of MicroPython: left out here, it burns no eFuse",
        "SECURE_BOOT_EN: 0x0 -> 0x1",
        "ENABLE_SECURITY_DOWNLOAD: 0x0 -> 0x1",
    ):
        assert seen in done.out
    table = done.out.split("eFuse  ")[1]
    assert re.search(r"^BLOCK_KEY0 +empty +hidden, fixed$", table, re.MULTILINE)
    assert re.search(r"^SECURE_BOOT_EN +0x0 +0x1$", table, re.MULTILINE)
    assert "PRIVATE KEY" not in done.out


def test_it_has_no_way_to_burn() -> None:
    assert limpet("secure", "burn").code == 2
    for command in ("plan", "rehearse"):
        done = limpet("secure", command, "--board", "esp32_generic", "--port", "/dev/null")
        assert (done.code, "No such option: --port" in done.err) == (2, True)
    done = limpet("secure", "rehearse", "--board", "no_such_board")
    assert (done.code, done.out, "There is no board 'no_such_board'" in done.err) == (2, "", True)
