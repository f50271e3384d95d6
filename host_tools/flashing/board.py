"""Flashing one board, step by step.

Nothing starts without its partition table. So that one is erased first and written last, when all else is
verified: a board whose flashing is cut off does not start a mixture of old and new. What is there already is
found by its hashes, so flashing again goes on where it was cut off.
"""

import contextlib
import functools
import hashlib
import re
import time
from collections.abc import Callable, Mapping

from host_tools.errors import NoDeviceError, UnverifiedError
from host_tools.esp.chip import Chip, LinkError, connect
from host_tools.flashing.guards import Found
from host_tools.flashing.job import Consent, Job
from host_tools.flashing.plan import TABLE, Plan, Span, pieces, plan

CONNECT_S = 20.0
"""How long a board may take to answer in its bootloader."""
START_S = 15.0
"""How long a board may take from its reset to its banner; then it is reset once more."""

# How long the parent may hear nothing meanwhile.
_ERASE_ALL_S = 140.0
_STEP_S = 30.0  # one command to the chip, with all that esptool does to get an answer
_WRITE_S = 60.0  # one block, three times
_BACK_S = 0.5
_STARTS = 2
_LAST_WORDS = 3
_LONGEST = 80

Report = Callable[..., None]
"""Sends a report: its kind, and what it has to say."""
May = Callable[[Found], Consent | None]
"""Asks whether the board that was found may be flashed, and with what; None forbids it."""


class ReadOnlyError(UnverifiedError):
    """The flash keeps what it has."""


class NotStartedError(UnverifiedError):
    """What was written is there, and does not start."""


class Flashing:
    """A board, and what shall be on it."""

    def __init__(self, job: Job, image: bytes | memoryview, report: Report, may: May) -> None:
        self._job = job
        self._image = image
        self._report = report
        self._may = may
        self._own: tuple[tuple[int, bytes], ...] = ()
        self._take(Consent())
        self._erased = False
        self._present: Mapping[Span, str] = {}
        # What was on the chip when writing began that did not end well.
        self._in_vain: Mapping[Span, str] | None = None

    def run(self) -> None:
        """Flash the board, at a lower speed when the line fails.

        Raises NoDeviceError, LinkError when no speed will do, or UnverifiedError.
        """
        for attempt, baud in enumerate(self._job.bauds):
            try:
                with contextlib.ExitStack() as stack:
                    self._session(self._connected(stack, baud, again=attempt > 0))
                return
            except (LinkError, UnverifiedError) as error:
                if isinstance(error, ReadOnlyError | NotStartedError) or baud == self._job.bauds[-1]:
                    raise
                what = str(error).partition(";")[0].rstrip(".")  # the rest is what the user could do
                self._report("remark", text=f"{what}; trying again at {self._job.bauds[attempt + 1]} baud")

    def _connected(self, stack: contextlib.ExitStack, baud: int, again: bool) -> Chip:
        """The chip; when it was there before, its port may need a while to come back."""
        self._step("connecting", 2 * CONNECT_S + _STEP_S)
        end = time.monotonic() + CONNECT_S
        while True:
            try:
                return stack.enter_context(connect(self._job.port, self._job, baud, CONNECT_S))
            except NoDeviceError:
                if not again or time.monotonic() > end:
                    raise
                time.sleep(_BACK_S)

    def _session(self, chip: Chip) -> None:
        consent = self._may(_found(chip))
        if consent is None:
            chip.reset()
            return
        if consent != Consent():
            self._take(consent)
        todo = self._compared(chip)
        if self._job.dry_run:
            chip.reset()
            return
        if todo.needed:
            self._write(chip, todo)
        self._prove(chip)

    def _take(self, consent: Consent) -> None:
        self._own = consent.own
        own = [Span(offset, len(data)) for offset, data in consent.own]
        self._regions = (*(span for span in self._job.regions if span not in consent.leave), *own)
        self._wanted = {piece: _md5(self._part(piece)) for piece in pieces(self._regions)}

    def _compared(self, chip: Chip) -> Plan:
        """What differs; erases all of the flash first when it shall be, once."""
        erase = self._job.erase and not self._erased
        if erase and not self._job.dry_run:
            self._step("erasing all of the flash", _ERASE_ALL_S)
            chip.erase_all()
        self._step("comparing", _STEP_S)
        blank = {piece: _blank(piece.size) for piece in self._wanted}
        present = blank if erase and self._job.dry_run else self._digests(chip)
        if erase:
            if present != blank:
                raise self._read_only()
            self._erased = True
        todo = plan(self._wanted, present)
        if self._in_vain == present:
            raise self._read_only()
        self._present = present
        self._report("plan", write=todo.size, same=todo.same)
        return todo

    def _digests(self, chip: Chip) -> dict[Span, str]:
        present = {}
        for done, piece in enumerate(self._wanted, 1):
            present[piece] = chip.md5(*piece)
            self._report("progress", done=done, total=len(self._wanted))
        return present

    def _write(self, chip: Chip, todo: Plan) -> None:
        self._in_vain = self._present
        if self._present.get(TABLE) != _blank(TABLE.size):
            self._step("erasing the partition table", _STEP_S)
            chip.erase(*TABLE)
            if chip.md5(*TABLE) != _blank(TABLE.size):
                raise self._read_only()
        if todo.runs:
            self._step("writing", _WRITE_S)
            chip.write([(run.offset, bytes(self._part(run))) for run in todo.runs], self._progress)
            self._step("verifying", _STEP_S)
            for done, region in enumerate(self._regions, 1):
                if region != TABLE and chip.md5(*region) != _md5(self._part(region)):
                    raise UnverifiedError(f"{self._job.port}: what was written does not read back.")
                self._progress(done, len(self._regions))
        self._step("writing the partition table", _WRITE_S)
        chip.write([(TABLE.offset, bytes(self._part(TABLE)))])
        self._in_vain = None

    def _prove(self, chip: Chip) -> None:
        """Start the board, and wait for the line that only what was written can say."""
        said: list[str] = []
        for _ in range(_STARTS):
            self._step("starting", START_S + _STEP_S)
            chip.reset()
            for line in chip.lines(START_S):
                if proof := re.search(self._job.proof, line):
                    self._report("proof", text=proof[0])
                    return
                if text := "".join(char for char in line if char.isprintable()).strip():
                    said = [*said, text[:_LONGEST]][-_LAST_WORDS:]
        raise NotStartedError(
            f"{self._job.port}: it does not start what was written: "
            + (f"it says no more than '{' / '.join(said)}'." if said else "it says nothing.")
        )

    def _read_only(self) -> ReadOnlyError:
        return ReadOnlyError(
            f"{self._job.port}: its flash does not take what is written, it is write-protected or worn out: "
            "use another board."
        )

    def _step(self, name: str, patience: float) -> None:
        self._report("step", name=name, patience=patience)

    def _progress(self, done: int, total: int) -> None:
        self._report("progress", done=done, total=total)

    def _part(self, span: Span) -> bytes | memoryview:
        for offset, data in self._own:
            if offset <= span.offset and span.end <= offset + len(data):
                return data[span.offset - offset : span.end - offset]
        return self._image[span.offset : span.end]


def _found(chip: Chip) -> Found:
    security = chip.security
    closed = security.secure_download  # then it answers no more than that
    return Found(
        chip=chip.name,
        mac=chip.mac,
        flash_size=0 if closed else chip.flash_size,
        revision=0 if closed else chip.revision,
        encrypted=security.encrypted,
        secure_boot=security.secure_boot,
        secure_download=closed,
    )


def _md5(data: bytes | memoryview) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@functools.cache
def _blank(size: int) -> str:
    return _md5(b"\xff" * size)
