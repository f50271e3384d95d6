"""`limpet hil`: rigs, the tests on them, and the tests of the tests (docs/hil.md)."""

import importlib.util
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from host_tools.cli.app import AsJson, clean_up_when_ended, group, remark, show_json
from host_tools.cli.table import show_table
from host_tools.errors import FAILED, NO_DEVICE, UNVERIFIED, LimpetError

if TYPE_CHECKING:
    from host_tools.hil.check import Finding

commands = group("hil", "Hardware in the loop: rigs, the tests on them, and their reports.")

Rigs = Annotated[Path, typer.Option("--rigs", help="The folder of the rig files.")]
Names = Annotated[list[str] | None, typer.Argument(help="Rigs by name, or the paths of their files.")]
Ledger = Annotated[Path, typer.Option(help="What each test did so far on each rig: a SQLite file.")]
Tests = Annotated[list[str] | None, typer.Argument(help="Tests as pytest names them; without, tests/hil.")]
_RIGS = Path("rigs")
_LEDGER = Path("hil.db")


@commands.command()
def rigs(folder: Rigs = _RIGS, as_json: AsJson = False) -> None:
    """List the rigs: rung, board, where it is, and what a test may need of it."""
    from host_tools.hil.rigs import load_all
    from host_tools.hil.rigs.show import as_json as shown
    from host_tools.hil.rigs.show import listed

    there = load_all(folder)
    if as_json:
        show_json({"rigs": [shown(each) for each in there]})
    else:
        typer.echo("\n".join(listed(there)))


@commands.command()
def suggest(
    port: Annotated[
        list[str] | None, typer.Option("--port", "-p", help="Only this port, device or pyserial URL.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Ask the chips which they are, and their MAC: resets the boards.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write the files; those that are there stay as they are.")
    ] = False,
    folder: Rigs = _RIGS,
) -> None:
    """Print a rig file for each board that is plugged in."""
    from host_tools.devices.identify import look
    from host_tools.devices.port import describe, ports
    from host_tools.hil.rigs import known_rigs, sound_rigs
    from host_tools.hil.rigs.suggest import suggestions

    clean_up_when_ended()
    there = ports()
    asked = [describe(name, there) for name in dict.fromkeys(port)] if port else there
    made, why_not = suggestions(look(asked, reset=probe), known_rigs(folder), sound_rigs(folder))
    for sentence in why_not:
        remark(sentence)
    for each in made:
        typer.echo(f"written: {each.write(folder)}" if write else f"# {folder / each.name}.toml\n{each.text}")
    if not made:
        if not why_not:
            remark("limpet: No board is plugged in; the rig 'virtual' needs none.")
        raise typer.Exit(NO_DEVICE)


@commands.command()
def check(names: Names = None, folder: Rigs = _RIGS, as_json: AsJson = False) -> None:
    """Prove rigs before use: the right board, its network and clock, and that its power really cuts.

    The board gets firmware and settings for that. What it had is gone.
    """
    from host_tools.hil import check as checking
    from host_tools.hil.rigs import load_all, load_rig

    clean_up_when_ended()
    chosen = [load_rig(name, folder) for name in names] if names else load_all(folder)
    found: dict[str, list[Finding]] = {}
    for rig in chosen:
        found[rig.name] = []
        for each in checking.check(rig):
            found[rig.name].append(each)
            if not as_json:
                typer.echo(f"{rig.name}: {each.outcome:7} {each.name}: {each.text}")
                if each.remedy:
                    typer.echo(f"    {each.remedy}")
    if as_json:
        show_json({"rigs": {name: [vars(each) for each in findings] for name, findings in found.items()}})
    outcomes = {each.outcome for findings in found.values() for each in findings}
    if outcomes != {"passed"}:
        raise typer.Exit(FAILED if "failed" in outcomes else UNVERIFIED)


@commands.command()
def run(
    tests: Tests = None,
    rig: Annotated[
        list[str] | None,
        typer.Option("--rig", "-r", help="A rig; NAME:4 for four boards of a virtual one. Several: several."),
    ] = None,
    rung: Annotated[list[str] | None, typer.Option(help="All rigs of this rung: vm, virtual, …")] = None,
    split: Annotated[
        bool, typer.Option("--split", help="The rigs share the tests; else each runs them all.")
    ] = False,
    retries: Annotated[int, typer.Option(min=0, max=5, help="How often a failed test is tried again.")] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="A blocked test counts: exit code 5, as when nothing passed.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The folder of the reports.")] = Path("build/hil"),
    ledger: Ledger = _LEDGER,
    folder: Rigs = _RIGS,
) -> None:
    """Run tests on rigs side by side, and report: JUnit, JSON, and one HTML page."""
    _needs_extra()
    from host_tools.hil.evidence import summary
    from host_tools.hil.run import Order
    from host_tools.hil.run import run as run_tests
    from host_tools.hil.screen import shown

    clean_up_when_ended()
    order = Order(
        tests=tuple(tests or ()),
        rigs=tuple(rig or ()),
        rungs=tuple(rung or ()),
        folder=folder,
        out=out,
        split=split,
        retries=retries,
        strict=strict,
        ledger=ledger,
    )
    with shown(remark) as watch:
        try:
            ended = run_tests(order, watch)
        except KeyboardInterrupt:
            remark(f"limpet: interrupted; the report on what has run is {out / 'report.html'}.")
            raise
    for sentence in ended.broken:
        remark(f"limpet: {sentence}")
    counts = summary(ended.results)
    typer.echo(", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "no results")
    typer.echo(f"report: {out / 'report.html'}")
    raise typer.Exit(ended.exit_code)


@commands.command()
def mutate(
    names: Annotated[list[str] | None, typer.Argument(help="Mutants; without, all.")] = None,
    rig: Annotated[
        str, typer.Option(help="The rig: a virtual one, for each mutant has its own.")
    ] = "virtual",
    jobs: Annotated[int, typer.Option(min=1, max=32, help="So many mutants side by side.")] = 4,
    table: Annotated[
        Path | None, typer.Option(help="Write the table of mutants into this page, between its markers.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Keep in the list of mutants which test caught each of them.")
    ] = False,
    folder: Rigs = _RIGS,
) -> None:
    """Break the firmware in small ways, one at a time; a test must catch each."""
    _needs_extra()
    from host_tools.hil.mutate.run import Order
    from host_tools.hil.mutate.run import mutate as run_mutants
    from host_tools.hil.mutate.screen import shown

    clean_up_when_ended()
    order = Order(names=tuple(names or ()), rig=rig, rigs=folder, jobs=jobs, table=table, write=write)
    with shown(remark) as show:
        report = run_mutants(order, show)
    caught = sum(each.caught is not None for each in report.verdicts)
    typer.echo(f"{caught} of {len(report.verdicts)} mutants caught")
    for mutant, stale in report.stale.items():
        remark(f"limpet: '{mutant}' names tests that there are not: {', '.join(stale)}.")
    raise typer.Exit(report.exit_code)


@commands.command()
def flaky(ledger: Ledger = _LEDGER, as_json: AsJson = False) -> None:
    """Show the tests that do not do the same each time, and those in quarantine."""
    from rich.table import Table

    from host_tools.hil.evidence import flaky as record

    with record.Ledger(_there(ledger)) as opened:
        unsteady, quarantines = opened.unsteady(), opened.quarantines()
    if as_json:
        show_json(
            {"tests": [vars(each) for each in unsteady], "quarantines": [vars(each) for each in quarantines]}
        )
        return
    table = Table("test", "rig", "runs", "flaky", "failed", "last")
    for each in unsteady:
        counts = map(str, (each.runs, each.flaky, each.failed))
        table.add_row(each.test, each.rig, *counts, _day(each.last))
    show_table(table) if unsteady else typer.echo("No test was flaky.")
    for held in quarantines:
        typer.echo(f"in quarantine until {_day(held.until)}: {held.test} on {held.rig}: {held.why}")


@commands.command()
def quarantine(
    test: Annotated[str, typer.Argument(help="The test, as reports name it.")],
    rig: Annotated[str, typer.Option(help="The rig on which it is flaky.")],
    why: Annotated[str, typer.Option(help="The reason; the reports show it.")],
    days: Annotated[float, typer.Option(help="When its failures count again: at most 90 days.")] = 14,
    ledger: Ledger = _LEDGER,
) -> None:
    """Have a flaky test's failures on a rig not count, for some days. It still runs, and is shown."""
    from host_tools.hil.evidence import flaky as record

    with record.Ledger(ledger) as opened:
        made = opened.quarantine(test, rig, days, why)
        known = opened.history(test, rig)
    if not known:
        remark(
            f"limpet: {ledger} has no run of '{test}' on '{rig}': see that both are as the report has them."
        )
    typer.echo(f"in quarantine until {_day(made.until)}: {test} on {rig}")


@commands.command()
def release(
    test: Annotated[str, typer.Argument(help="The test, as reports name it.")],
    rig: Annotated[str, typer.Option(help="The rig on which it is in quarantine.")],
    ledger: Ledger = _LEDGER,
) -> None:
    """End a quarantine before its time."""
    from host_tools.hil.evidence import flaky as record

    with record.Ledger(_there(ledger)) as opened:
        opened.release(test, rig)
    typer.echo(f"counts again: {test} on {rig}")


def _there(ledger: Path) -> Path:
    if not ledger.exists():
        raise LimpetError(f"There is no {ledger}: `limpet hil run` makes it, or name another by --ledger.")
    return ledger


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _needs_extra() -> None:
    missing = [
        name
        for name in ("pytest", "xdist", "pytest_rerunfailures", "jinja2", "junitparser")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise LimpetError(f"The tests need {', '.join(missing)}: install them by pip install 'limpet[hil]'.")
