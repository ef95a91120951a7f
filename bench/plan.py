"""The cells of the benchmark: one engine doing one piece of work at one concurrency, in its own process.

A round visits all cells in order; rounds follow each other, so what drifts on the machine drifts for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

GROUPS = ("kernel", "fanout", "state", "reload", "waiting", "imports")
CONCURRENCIES = (1, 10, 100)
QUICK_CONCURRENCIES = (1, 100)
STEP_ENGINES: dict[str, tuple[str, ...]] = {
    "holdfast file": ("holdfast_steps", "--store", "file"),
    "langgraph AsyncSqliteSaver": ("langgraph_steps", "--saver", "async"),
    "langgraph SqliteSaver": ("langgraph_steps", "--saver", "sync"),
    "dbos async": ("dbos_steps", "--api", "async"),
    "dbos sync": ("dbos_steps", "--api", "sync"),
    "holdfast :memory:": ("holdfast_steps", "--store", "memory"),
    "langgraph none": ("langgraph_steps", "--saver", "none"),
}


@dataclass(frozen=True)
class Cell:
    """`key` names the cell in results and floors; `once` cells are long and run in the first round only."""

    group: str
    key: str
    command: tuple[str, ...]
    once: bool = False


def cells(groups: tuple[str, ...], seconds: float, *, quick: bool) -> list[Cell]:
    """The chosen groups' cells in the order of one round."""
    flags = ("--quick",) if quick else ()
    timed = ("--seconds", str(seconds))
    chosen = [*_kernel(timed, QUICK_CONCURRENCIES if quick else CONCURRENCIES), *_others(flags)]
    return [cell for cell in chosen if cell.group in groups]


def steps_key(engine: str, concurrency: int) -> str:
    return f"{engine} @{concurrency}"


def _kernel(timed: tuple[str, ...], concurrencies: tuple[int, ...]) -> Iterator[Cell]:
    for mode in ("single", "grouped"):
        yield Cell("kernel", f"sqlite {mode}", ("bare_sqlite", "--mode", mode, *timed))
    for concurrency in concurrencies:
        load = (*timed, "--concurrency", str(concurrency))
        for engine, command in STEP_ENGINES.items():
            yield Cell("kernel", steps_key(engine, concurrency), (*command, *load))


def _others(flags: tuple[str, ...]) -> Iterator[Cell]:
    yield Cell("fanout", "fan-out 1,000 holdfast", ("holdfast_fanout", *flags))
    yield Cell("fanout", "fan-out 1,000 langgraph", ("langgraph_fanout", *flags))
    yield Cell("fanout", "fan-out 10,000 holdfast", ("holdfast_fanout", "--items", "10000", "--repeats", "1"))
    yield Cell("state", "1 MB state holdfast", ("holdfast_state", *flags))
    yield Cell("state", "1 MB state langgraph", ("langgraph_state", *flags), once=True)
    yield Cell("reload", "reload holdfast", ("holdfast_reload", *flags), once=True)
    yield Cell("waiting", "waiting holdfast", ("holdfast_waiting", *flags), once=True)
    yield Cell("imports", "imports", ("imports", *flags))
