"""The tables that `make bench` prints: medians over the rounds, ratios and floors round by round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from bench.floors import FLOORS, Floor, Round
from bench.plan import CONCURRENCIES, Kernel, steps_key

METHOD = """\
W(10): ten trivial nodes in sequence, about 200 bytes of JSON state, each durable before the next begins.
Load: waves of C runs started together. Rounds are interleaved: every cell in a fresh process, then all again.
Step latency (p50, p99): from one node's start to the next one's start in the same run, so it holds the commit
and the scheduling. Single, grouped: one INSERT+COMMIT, 100 rows per commit, nothing else.
All SQLite files: synchronous=FULL. Commits: transactions that wrote. Statements and round trips: all of one run's,
its start and end included. Values are medians over the rounds; ratios are taken within each round."""

COUNTED_ON_THE_WIRE = {"statements/step": "statements_per_step", "round trips/step": "round_trips_per_step"}


def medians(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Per cell and metric, the median over the rounds that have it."""
    found: dict[str, dict[str, list[float]]] = {}
    for results in rounds:
        for key, metrics in results.items():
            for name, value in metrics.items():
                found.setdefault(key, {}).setdefault(name, []).append(value)
    return {
        key: {name: statistics.median(values) for name, values in metrics.items()}
        for key, metrics in found.items()
    }


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned plain text: the first column to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def steps_table(rounds: Sequence[Round], kernel: Kernel) -> str:
    middle = medians(rounds)
    header = ("engine", "runs", "steps/s", "p50 ms", "p99 ms", "CPU us/step", "commits/step")
    header += (*COUNTED_ON_THE_WIRE,) if kernel.postgres else ()
    rows = [_steps_row(name, "-", middle[name], kernel, "") for name in kernel.bare if name in middle]
    for concurrency in CONCURRENCIES:
        for engine in kernel.engines:
            key = steps_key(engine, concurrency)
            if key in middle:
                advantage = _advantage(rounds, kernel, engine, concurrency)
                rows.append(_steps_row(engine, str(concurrency), middle[key], kernel, advantage))
    return table((*header, "holdfast is"), rows) if rows else ""


def _steps_row(
    name: str, runs: str, metrics: dict[str, float], kernel: Kernel, advantage: str
) -> tuple[str, ...]:
    wire = COUNTED_ON_THE_WIRE.values() if kernel.postgres else ()
    return (
        name,
        runs,
        f"{metrics['steps_per_second']:,.0f}",
        f"{metrics['p50_ms']:.3f}",
        f"{metrics['p99_ms']:.3f}",
        f"{metrics['cpu_us_per_step']:,.0f}",
        _counted(metrics.get("commits_per_step"), 3),
        *(_counted(metrics.get(metric), 2) for metric in wire),
        advantage,
    )


def _counted(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _advantage(rounds: Sequence[Round], kernel: Kernel, engine: str, concurrency: int) -> str:
    """How many times this engine Holdfast is: `:memory:` against what stores nothing, else what is durable."""
    if engine.startswith("holdfast"):
        return ""
    ours = steps_key("holdfast :memory:" if engine == "langgraph none" else kernel.ours, concurrency)
    theirs = steps_key(engine, concurrency)
    ratios = [
        results[ours]["steps_per_second"] / results[theirs]["steps_per_second"]
        for results in rounds
        if ours in results and theirs in results
    ]
    return f"{statistics.median(ratios):.1f}x" if ratios else "-"


def others_table(rounds: Sequence[Round]) -> str:
    rows = [
        (key, name, f"{value:,.3f}" if value < 10 else f"{value:,.0f}")
        for key, metrics in medians(rounds).items()
        if "steps_per_second" not in metrics
        for name, value in metrics.items()
    ]
    return table(("cell", "metric", "median"), rows) if rows else ""


def floor_values(floor: Floor, rounds: Sequence[Round]) -> list[float]:
    return [value for value in map(floor.value, rounds) if value is not None]


def missed(rounds: Sequence[Round], groups: Sequence[str]) -> list[Floor]:
    """The floors (not the goals) of these groups that were not reached or could not be read."""
    return [
        floor
        for floor in FLOORS
        if floor.group in groups and not floor.goal
        if not (values := floor_values(floor, rounds)) or not floor.reached(statistics.median(values))
    ]


def floors_table(rounds: Sequence[Round], groups: Sequence[str]) -> str:
    header = ("floor", "kind", "asked", "median", "range", "")
    rows = [_floor_row(floor, floor_values(floor, rounds)) for floor in FLOORS if floor.group in groups]
    return table(header, rows)


def _floor_row(floor: Floor, values: Sequence[float]) -> tuple[str, ...]:
    kind = "goal" if floor.goal else "floor"
    asked = f"{'>=' if floor.at_least else '<='} {_number(floor.limit, floor.unit)}"
    if not values:
        return (floor.title, kind, asked, "-", "-", "not measured")
    middle = statistics.median(values)
    spread = f"{_number(min(values), '')}..{_number(max(values), '')}"
    return (
        floor.title,
        kind,
        asked,
        _number(middle, floor.unit),
        spread,
        "reached" if floor.reached(middle) else "NOT",
    )


def _number(value: float, unit: str) -> str:
    digits = f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{digits}{'' if unit in ('', 'x') else ' '}{unit}"
