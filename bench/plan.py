"""The cells of the benchmark: one engine doing one piece of work at one concurrency, in its own process.

A round visits all cells in order; rounds follow each other, so what drifts on the machine drifts for all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.dags import QUICK_SIZES, SIZES

CONCURRENCIES = (1, 10, 100)
QUICK_CONCURRENCIES = (1, 100)


@dataclass(frozen=True)
class Kernel:
    """W(10) on one database: what it does bare, every engine, and which of them is beside the durable others."""

    group: str
    bare: Mapping[str, tuple[str, ...]]
    engines: Mapping[str, tuple[str, ...]]
    ours: str
    postgres: bool = False


SQLITE = Kernel(
    "kernel",
    {
        "sqlite single": ("bare_sqlite", "--mode", "single"),
        "sqlite grouped": ("bare_sqlite", "--mode", "grouped"),
    },
    {
        "holdfast file": ("holdfast_steps",),
        "holdfast factory": ("holdfast_steps", "--factory"),
        "holdfast saga": ("holdfast_saga",),
        "langgraph AsyncSqliteSaver": ("langgraph_steps", "--saver", "async"),
        "langgraph SqliteSaver": ("langgraph_steps", "--saver", "sync"),
        "dbos async": ("dbos_steps", "--api", "async"),
        "dbos sync": ("dbos_steps", "--api", "sync"),
        "holdfast :memory:": ("holdfast_steps", "--memory"),
        "langgraph none": ("langgraph_steps", "--saver", "none"),
    },
    ours="holdfast file",
)
POSTGRES = Kernel(
    "postgres",
    {
        "postgres single": ("bare_postgres", "--mode", "single"),
        "postgres grouped": ("bare_postgres", "--mode", "grouped"),
    },
    {
        "holdfast postgres": ("holdfast_steps",),
        "holdfast postgres saga": ("holdfast_saga",),
        "langgraph AsyncPostgresSaver": ("langgraph_steps", "--saver", "async"),
        "langgraph PostgresSaver": ("langgraph_steps", "--saver", "sync"),
        "dbos postgres async": ("dbos_steps", "--api", "async"),
        "dbos postgres sync": ("dbos_steps", "--api", "sync"),
    },
    ours="holdfast postgres",
    postgres=True,
)
KERNELS = (SQLITE, POSTGRES)
GROUPS = (
    "kernel",
    "postgres",
    "queue",
    "claims",
    "fanout",
    "dag",
    "state",
    "reload",
    "waiting",
    "machine",
    "imports",
)

QUEUE_ENGINES = {"holdfast": 10_000, "procrastinate": 2_000, "pgqueuer": 10_000, "dbos": 1_500}
"""How many jobs each gets: what takes a few seconds. Rates are compared, and all are steady by then."""

LATENCY_JOBS = {"holdfast": 100, "procrastinate": 100, "pgqueuer": 100, "dbos": 30}
QUICK_SHARE = 10

DAG_SIZES: Mapping[str, Mapping[str, int]] = {
    "holdfast": SIZES,
    "dask": {"independent": 1_000, "chain": 300, "layers": 30, "map": 2_000},
    "prefect": {"independent": 1_000, "chain": 300, "layers": 15, "map": 1_000},
    "celery": {"independent": 1_000, "map": 3_000},
}
"""What each gets: what takes some seconds. Costs per task are compared.
With edges, a message of Celery carries all that follows."""


@dataclass(frozen=True)
class Cell:
    """`key` names the cell in results and floors; `once` cells are long and run in the first round only."""

    group: str
    key: str
    command: tuple[str, ...]
    once: bool = False
    postgres: bool = False  # gets an empty database


def cells(groups: tuple[str, ...], seconds: float, *, quick: bool) -> list[Cell]:
    """The chosen groups' cells in the order of one round."""
    timed = ("--seconds", str(seconds))
    concurrencies = QUICK_CONCURRENCIES if quick else CONCURRENCIES
    kernels = [cell for kernel in KERNELS for cell in _kernel(kernel, timed, concurrencies)]
    flags = ("--quick",) if quick else ()
    chosen = [*kernels, *_queues(QUICK_SHARE if quick else 1), *_others(flags), *_dags(flags)]
    return [cell for cell in chosen if cell.group in groups]


def steps_key(engine: str, concurrency: int) -> str:
    return f"{engine} @{concurrency}"


def queue_key(engine: str, workers: int) -> str:
    return f"queue {engine}, {workers} worker{'s' if workers > 1 else ''}"


def dag_key(engine: str, shape: str) -> str:
    return f"dag {engine}, {shape}"


def _dags(flags: tuple[str, ...]) -> Iterator[Cell]:
    for shape in SIZES:
        for engine, sizes in DAG_SIZES.items():
            if shape not in sizes or (engine == "celery" and not shutil.which("redis-server")):
                continue
            peer = engine != "holdfast"
            size = min(sizes[shape], QUICK_SIZES[shape]) if flags and peer else sizes[shape]
            case = (f"{engine}_dag", "--shape", shape, "--size", str(size))
            yield Cell("dag", dag_key(engine, shape), (*case, *flags), once=peer)
    yield Cell("dag", "graph holdfast, 1,000 nodes", ("holdfast_fanout", "--static", *flags))
    yield Cell(
        "dag", "graph holdfast, 10,000 sent", ("holdfast_fanout", "--items", "10000", "--repeats", "1")
    )


def _kernel(kernel: Kernel, timed: tuple[str, ...], concurrencies: tuple[int, ...]) -> Iterator[Cell]:
    for name, command in kernel.bare.items():
        yield Cell(kernel.group, name, (*command, *timed), postgres=kernel.postgres)
    for concurrency in concurrencies:
        load = (*timed, "--concurrency", str(concurrency))
        for engine, command in kernel.engines.items():
            key = steps_key(engine, concurrency)
            yield Cell(kernel.group, key, (*command, *load), postgres=kernel.postgres)


def _queues(share: int) -> Iterator[Cell]:
    for workers in (1, 2):
        for engine, jobs in QUEUE_ENGINES.items():
            flags = ("--engine", engine, "--jobs", str(jobs // share), "--workers", str(workers))
            once = workers > 1 and engine != "holdfast"
            yield Cell("queue", queue_key(engine, workers), ("queue", *flags), once, postgres=True)
    for engine, jobs in LATENCY_JOBS.items():
        flags = ("--engine", engine, "--jobs", str(jobs // share))
        once = engine != "holdfast"
        yield Cell("queue", f"enqueue to start {engine}", ("latency", *flags), once, postgres=True)
    flags = ("--engine", "holdfast", "--here", "--jobs", str(LATENCY_JOBS["holdfast"] // share))
    yield Cell("queue", "enqueue to start here holdfast", ("latency", *flags), postgres=True)
    for engine in ("holdfast", "dbos"):
        flags = ("--engine", engine, "--runs", str(1000 // share))
        once = engine != "holdfast"
        yield Cell("queue", f"recovery {engine}", ("recovery", *flags), once, postgres=True)


def _others(flags: tuple[str, ...]) -> Iterator[Cell]:
    yield Cell("claims", "claims holdfast", ("holdfast_claims", *flags), once=True, postgres=True)
    yield Cell("fanout", "fan-out 1,000 holdfast", ("holdfast_fanout", *flags))
    yield Cell("fanout", "fan-out 1,000 static holdfast", ("holdfast_fanout", "--static", *flags))
    yield Cell("fanout", "fan-out 1,000 langgraph", ("langgraph_fanout", *flags))
    yield Cell("fanout", "fan-out 10,000 holdfast", ("holdfast_fanout", "--items", "10000", "--repeats", "1"))
    yield Cell("state", "1 MB state holdfast", ("holdfast_state", *flags))
    yield Cell("state", "1 MB state langgraph", ("langgraph_state", *flags), once=True)
    yield Cell("reload", "reload holdfast", ("holdfast_reload", *flags), once=True)
    yield Cell("waiting", "waiting holdfast", ("holdfast_waiting", *flags), once=True)
    for concurrency in (1, 100):
        load = ("holdfast_machine", "--concurrency", str(concurrency), *flags)
        yield Cell("machine", f"machine beside graph @{concurrency}", load)
    for engine in ("holdfast", "transitions", "python-statemachine"):
        trigger = ("machine_trigger", "--engine", engine, "--seconds", "1")
        yield Cell("machine", f"trigger {engine}", trigger)
    yield Cell("imports", "imports", ("imports", *flags))
