"""Run the benchmark: every cell in a process of its own, in interleaved rounds, then the tables.

bench/run.sh [--quick] [--only kernel,fanout] [--rounds N] [--seconds S] [--json FILE] [--check]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, report, server
from bench.floors import FLOORS
from bench.plan import GROUPS, KERNELS, Cell, cells

ROOT = Path(__file__).resolve().parent.parent
CELL_TIMEOUT_SECONDS = 600
ERROR_LINES = 3


class CellFailed(Exception):
    """A cell's process ended without an answer."""


@dataclass(frozen=True)
class Places:
    """Where the cells keep what they write: files below `directory`, databases on the server of a URL."""

    directory: Path
    postgres: str


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    plan = cells(options.only, options.seconds, quick=options.quick)
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(server.server()) if any(cell.postgres for cell in plan) else ""
        name = tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=options.directory)
        places = Places(Path(stack.enter_context(name)), postgres)
        about = machine.describe(places.directory) | {
            "postgres": server.settings(postgres) if postgres else {}
        }
        introduce(about, options.rounds, quick=options.quick)
        rounds, failures = measure(plan, options.rounds, places)
    show(rounds, options.only, failures)
    if options.json:
        answer = {"machine": about, "quick": options.quick, "rounds": rounds, "failures": failures}
        answer |= {"medians": report.medians(rounds), "floors": floors(rounds, options.only)}
        options.json.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    return 1 if options.check and (failures or report.missed(rounds, options.only)) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/run.sh", description="Holdfast beside its peers, in one run."
    )
    parser.add_argument("--quick", action="store_true", help="one short round, for a first look")
    parser.add_argument("--only", type=groups, default=GROUPS, help=f"some of {','.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (3; quick: 1)")
    parser.add_argument("--seconds", type=float, help="the window of a kernel cell (1.5; quick: 0.5)")
    parser.add_argument("--directory", type=Path, help="where the databases go (a temporary directory)")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--check", action="store_true", help="exit 1 when a floor is not reached")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.5 if options.quick else 1.5)
    return options


def groups(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := set(chosen) - set(GROUPS):
        message = f"unknown group {', '.join(sorted(unknown))}; known: {', '.join(GROUPS)}"
        raise argparse.ArgumentTypeError(message)
    return chosen


def measure(plan: Sequence[Cell], rounds: int, places: Places) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The metrics of each cell, per round; and the reasons of those that gave none."""
    measured: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    for number in range(rounds):
        results: dict[str, Any] = {}
        measured.append(results)
        for cell in plan:
            if cell.key in failures or (cell.once and number > 0):
                continue
            progress(f"round {number + 1}/{rounds}: {cell.key}")
            try:
                results[cell.key] = run_cell(cell, places)
            except CellFailed as failure:
                failures[cell.key] = str(failure)
    progress("")
    return measured, failures


def run_cell(cell: Cell, places: Places) -> dict[str, Any]:
    """Run it in a fresh process, directory and database; the last line of JSON that it printed. Raises CellFailed."""
    module, *flags = cell.command
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(dir=places.directory))
        command = [sys.executable, "-m", f"bench.cases.{module}", *flags, "--directory", name]
        if cell.postgres:
            command += ["--url", stack.enter_context(server.database(places.postgres))]
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=CELL_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            message = f"no answer within {CELL_TIMEOUT_SECONDS} s"
            raise CellFailed(message) from None
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not answers:
        raise CellFailed("\n".join(done.stderr.splitlines()[-ERROR_LINES:]) or f"exit code {done.returncode}")
    metrics: dict[str, Any] = json.loads(answers[-1])
    return metrics


def floors(rounds: Sequence[dict[str, Any]], chosen: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "floor": floor.title,
            "limit": floor.limit,
            "goal": floor.goal,
            "values": report.floor_values(floor, rounds),
        }
        for floor in FLOORS
        if floor.group in chosen
    ]


def introduce(about: dict[str, Any], rounds: int, *, quick: bool) -> None:
    packages = ", ".join(f"{name} {version or '(missing)'}" for name, version in about["packages"].items())
    say(f"{about['processor']}, {about['cores']} cores, {about['system']}")
    say(f"Python {about['python']}, SQLite {about['sqlite']}; {packages}")
    flush = f"4 KB append and flush {about['flush_ms']:.3f} ms"
    say(f"{about['file_system']}, {flush}; load at the start {about['load']:.2f}")
    if settings := about["postgres"]:
        say("PostgreSQL, for all alike: " + ", ".join(f"{name}={value}" for name, value in settings.items()))
    if about["file_system"] in machine.MEMORY_FILE_SYSTEMS:
        say("WARNING: the databases lie in memory, a flush costs nothing: give --directory on a disk.")
    say(f"\n{report.METHOD}\nRounds: {rounds}.{' QUICK: figures are indicative only.' if quick else ''}")


def show(rounds: Sequence[dict[str, Any]], chosen: Sequence[str], failures: dict[str, str]) -> None:
    for text in (
        *(report.steps_table(rounds, kernel) for kernel in KERNELS),
        report.others_table(rounds),
        report.floors_table(rounds, chosen),
    ):
        if text:
            say(f"\n{text}")
    for key, reason in failures.items():
        say(f"\nFAILED {key}:\n{reason}")


def say(text: str) -> None:
    print(text, flush=True)


def progress(text: str) -> None:
    """What is being measured now, on one line of a terminal; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
