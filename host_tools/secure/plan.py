"""The steps from an open board to one with flash encryption and secure boot, as commands to be run by hand.

The order is that of ESP-IDF's "Security Features Enablement Workflows": encryption first, because afterwards
`RD_DIS` is write-protected and no key could be hidden any more; the download mode last, because it ends
espefuse's access to the chip.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from host_tools import partitions
from host_tools.boards import Board
from host_tools.secure.chips import LOCKS, Locks, Values

PORT = "PORT"
"""Stands for the board's serial port in the commands."""
_BURNING = frozenset({"burn-key", "burn-efuse", "write-protect-efuse"})
_IMAGES = ("bootloader.bin", "partition-table.bin", "micropython.bin")


@dataclass(frozen=True)
class Command:
    """One command for a shell."""

    words: tuple[str, ...]

    @property
    def verb(self) -> str:
        """Of espefuse: what comes after its global options."""
        return self.words[5] if self.words[0] == "espefuse" else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of espefuse: what comes after the verb."""
        return self.words[6:]

    @property
    def burns(self) -> bool:
        """Whether it changes eFuses, which nothing can change back."""
        return self.verb in _BURNING

    def __str__(self) -> str:
        return shlex.join(self.words)


@dataclass(frozen=True)
class Step:
    """Some commands for one purpose."""

    title: str
    commands: tuple[Command, ...]
    forever: str = ""
    """What it takes away and nothing gives back; nothing where no eFuse is burnt."""
    hint: str = ""


def plan(board: Board, keys: Path, *, no_download: bool = False) -> tuple[Step, ...]:
    """The steps for `board`, with the keys in the folder `keys`.

    With `no_download` the download mode is turned off for good; without it, it keeps the little that the
    chip's secure mode allows, where the chip has one.
    """
    locks = LOCKS[board.chip]
    flash_key, signing_key, digest = (
        str(keys / name) for name in ("flash-key.bin", "signing-key.pem", "signing-digest.bin")
    )

    def fuse(verb: str, *words: str) -> Command:
        return Command(("espefuse", "--chip", board.chip, "--port", PORT, verb, *words))

    def burn(values: Values) -> Command:
        return fuse("burn-efuse", *(word for name, value in values for word in (name, str(value))))

    return (
        Step(
            "Make the keys",
            (
                Command(("umask", "077")),
                Command(("mkdir", "-p", str(keys))),
                Command(("espsecure", "generate-flash-encryption-key", flash_key)),
                Command(
                    (
                        "espsecure",
                        "generate-signing-key",
                        "--version",
                        "2",
                        "--scheme",
                        "rsa3072",
                        signing_key,
                    )
                ),
                Command(
                    ("espsecure", "digest-sbv2-public-key", "--keyfile", signing_key, "--output", digest)
                ),
            ),
            hint="The flash key is for this board alone: make another one for the next board. The signing "
            "key is one for all boards; whoever loses it can never change what runs on them.",
        ),
        Step(
            "Look at the chip",
            (fuse("summary"),),
            hint="Its eFuses under 'Security fuses' and 'Jtag fuses' must be as from the factory, all zero."
            + (f" The chip must be {locks.oldest}." if locks.oldest else ""),
        ),
        Step(
            "Burn the flash encryption key",
            (fuse("burn-key", *_key(locks.encryption_block, flash_key, locks.encryption_purpose)),),
            "A key block of the chip. The key can never be read or changed again, by nobody.",
        ),
        Step(
            "Turn flash encryption on",
            (burn(locks.encryption_on),),
            "Plain images. Bootloader, partition table and MicroPython run from now on only if they were "
            "encrypted with this board's key, and it cannot be turned off.",
        ),
        Step(
            "Close what would read the flash in plain",
            (burn(locks.download + locks.debug + locks.boot_paths),),
            "Debugging by JTAG, and the chip's own encryption and decryption for whoever is at the serial "
            "port. A board that fails can no longer be looked into.",
        ),
        Step(
            "Sign, encrypt and write your build of MicroPython",
            _images(board, flash_key, signing_key),
            hint="bootloader.bin and micropython.bin come from a build of your own, partition-table.bin from "
            "'limpet image build' (docs/secure.md). The node's identity, readings and files stay as they "
            "are. Do not let the board start before secure boot is on.",
        ),
        Step(
            "Turn secure boot on",
            (
                fuse("burn-key", *_key(locks.digest_block, digest, locks.digest_purpose)),
                *((burn(locks.other_digests),) if locks.other_digests else ()),
                burn(locks.boot_on),
            ),
            "Unsigned images. Only what was signed with this signing key starts"
            + (", and there is no place for the digest of a second one." if locks.other_digests else "."),
        ),
        Step(
            "Protect the settings",
            (fuse("write-protect-efuse", *locks.protect),),
            "What was not burnt so far in these groups stays as it is; no key can be hidden any more, so "
            "none can be added that must be secret.",
        ),
        Step(
            "See that the node runs",
            (Command(("esptool", "--port", PORT, "run")), Command(("limpet", "monitor", "--port", PORT))),
            hint="Go on only if the node starts and publishes. After the next step nothing can be mended.",
        ),
        _last(locks, burn, no_download),
        Step(
            "Remove the flash key",
            (Command(("rm", flash_key)),),
            hint="The board keeps it. Who has the file can read and change this board's flash.",
        ),
    )


def _key(block: str, file: str, purpose: str | None) -> tuple[str, ...]:
    return (block, file, purpose) if purpose else (block, file)


def _images(board: Board, flash_key: str, signing_key: str) -> tuple[Command, ...]:
    program = next(each.offset for each in board.partition if each.type == partitions.TYPE_APP)
    offsets = (board.features.bootloader_offset, partitions.TABLE_OFFSET, program)
    sign, encrypt, write = [], [], ["esptool", "--port", PORT, "--after", "no-reset", "write-flash"]
    for name, offset in zip(_IMAGES, offsets, strict=True):
        plain = name
        if offset != partitions.TABLE_OFFSET:  # secure boot does not look at the table
            plain = name.replace(".bin", "-signed.bin")
            sign.append(
                Command(
                    (
                        "espsecure",
                        "sign-data",
                        "--version",
                        "2",
                        "--keyfile",
                        signing_key,
                        "--output",
                        plain,
                        name,
                    )
                )
            )
        secret = name.replace(".bin", "-encrypted.bin")
        scheme = () if board.chip == "esp32" else ("--aes-xts",)
        encrypt.append(
            Command(
                (
                    *("espsecure", "encrypt-flash-data", *scheme, "--keyfile", flash_key),
                    *("--address", f"{offset:#x}", "--output", secret, plain),
                )
            )
        )
        write += [f"{offset:#x}", secret]
    return (*sign, *encrypt, Command(tuple(write)))


def _last(locks: Locks, burn: Callable[[Values], Command], no_download: bool) -> Step:
    if no_download or locks.secure_download is None:
        return Step(
            "Turn the download mode off",
            (burn(((locks.no_download, 1),)),),
            "Flashing over the serial port, and burning of any further eFuse. esptool, espefuse and limpet "
            "never reach the chip again; what runs can only be changed by what runs.",
        )
    return Step(
        "Leave of the download mode what is safe",
        (burn(((locks.secure_download, 1),)),),
        "Reading the flash and burning of any further eFuse over the serial port. Writing the flash stays "
        "possible for anybody who has the port: see below what that means.",
    )
