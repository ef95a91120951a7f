"""What Holdfast promises of its speed: ratios to what ran beside it in the same round, wherever one exists.

A floor is a promise, a goal is an aim. Each is read once per round from that round's cells; the report takes
the median and shows the range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.dags import SIZES
from bench.plan import dag_key, queue_key, steps_key

Round = Mapping[str, Mapping[str, float]]  # cell key -> metric -> value

NODES = 10
WAITING_RUNS = 100_000
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Floor:
    group: str
    title: str
    read: Callable[[Round], float]  # KeyError: a cell is missing
    limit: float
    at_least: bool = False  # else: at most
    goal: bool = False
    unit: str = "x"

    def value(self, results: Round) -> float | None:
        try:
            return self.read(results)
        except KeyError:
            return None

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def rate(results: Round, engine: str, concurrency: int) -> float:
    return results[steps_key(engine, concurrency)]["steps_per_second"]


def over(engine: str, *others: str, concurrency: int) -> Callable[[Round], float]:
    """How many times the best of the others `engine` is, in steps per second."""
    return lambda results: (
        rate(results, engine, concurrency) / max(rate(results, other, concurrency) for other in others)
    )


def metric(key: str, name: str) -> Callable[[Round], float]:
    return lambda results: results[key][name]


def drains(other: str, workers: int = 1) -> Callable[[Round], float]:
    """How many times the other's rate Holdfast drains a queue at."""
    return quotient(
        metric(queue_key("holdfast", workers), "jobs_per_second"),
        metric(queue_key(other, workers), "jobs_per_second"),
    )


def quotient(above: Callable[[Round], float], below: Callable[[Round], float]) -> Callable[[Round], float]:
    return lambda results: above(results) / below(results)


def per_task(engine: str, shape: str) -> Callable[[Round], float]:
    return metric(dag_key(engine, shape), "us_per_task")


def per_node(key: str, nodes: int) -> Callable[[Round], float]:
    return lambda results: results[key]["seconds"] / nodes * 1e6


STEP_OVER_BARE = quotient(metric("holdfast file @1", "p50_ms"), metric("sqlite single", "p50_ms"))
STEP_OVER_BARE_POSTGRES = quotient(
    metric("holdfast postgres @1", "p50_ms"), metric("postgres single", "p50_ms")
)
DURABLE_LANGGRAPH = ("langgraph AsyncSqliteSaver", "langgraph SqliteSaver")

FLOORS = (
    Floor(
        "kernel",
        "100 runs, steps/s over AsyncSqliteSaver",
        over("holdfast file", "langgraph AsyncSqliteSaver", concurrency=100),
        20,
        at_least=True,
    ),
    Floor(
        "kernel",
        "100 runs, steps/s over the best LangGraph saver",
        over("holdfast file", *DURABLE_LANGGRAPH, concurrency=100),
        20,
        at_least=True,
        goal=True,
    ),
    Floor(
        "kernel",
        "100 runs, steps/s over DBOS's better API",
        over("holdfast file", "dbos async", "dbos sync", concurrency=100),
        30,
        at_least=True,
    ),
    Floor("kernel", "1 run, p50 of a step over a bare INSERT+COMMIT", STEP_OVER_BARE, 2.5),
    Floor("kernel", "1 run, p50 of a step over a bare INSERT+COMMIT", STEP_OVER_BARE, 1.5, goal=True),
    Floor(
        "kernel",
        f"1 run of {NODES} steps, commits",
        metric("holdfast file @1", "commits_per_run"),
        NODES + 1,
        unit="",
    ),
    Floor(
        "kernel",
        "100 runs, steps/s of a saga over the graph's",
        over("holdfast saga", "holdfast file", concurrency=100),
        0.8,
        at_least=True,
    ),
    Floor(
        "kernel",
        f"1 saga of {NODES} steps, commits",
        metric("holdfast saga @1", "commits_per_run"),
        NODES + 1,
        unit="",
    ),
    Floor(
        "kernel",
        "100 runs, commits per step",
        metric("holdfast file @100", "commits_per_step"),
        0.05,
        unit="",
    ),
    Floor(
        "kernel",
        ":memory:, 1 run, steps/s over LangGraph without a checkpointer",
        over("holdfast :memory:", "langgraph none", concurrency=1),
        2,
        at_least=True,
    ),
    Floor(
        "kernel",
        ":memory:, 100 runs, steps/s over LangGraph without a checkpointer",
        over("holdfast :memory:", "langgraph none", concurrency=100),
        2,
        at_least=True,
    ),
    Floor(
        "postgres",
        "PostgreSQL, 100 runs, steps/s over LangGraph's better saver",
        over("holdfast postgres", "langgraph AsyncPostgresSaver", "langgraph PostgresSaver", concurrency=100),
        20,
        at_least=True,
    ),
    Floor(
        "postgres",
        "PostgreSQL, 100 runs, steps/s over DBOS's better API",
        over("holdfast postgres", "dbos postgres async", "dbos postgres sync", concurrency=100),
        30,
        at_least=True,
    ),
    Floor(
        "postgres", "PostgreSQL, 1 run, p50 of a step over a bare INSERT+COMMIT", STEP_OVER_BARE_POSTGRES, 2
    ),
    Floor(
        "postgres",
        f"PostgreSQL, 1 run of {NODES} steps, commits",
        metric("holdfast postgres @1", "commits_per_run"),
        NODES + 1,
        unit="",
    ),
    Floor(
        "postgres",
        "PostgreSQL, 100 runs, commits per step",
        metric("holdfast postgres @100", "commits_per_step"),
        0.05,
        unit="",
    ),
    Floor("queue", "queued one-step runs, 1 worker, over DBOS queues", drains("dbos"), 10, at_least=True),
    Floor(
        "queue",
        "queued one-step runs, 1 worker, over DBOS queues",
        drains("dbos"),
        20,
        at_least=True,
        goal=True,
    ),
    Floor(
        "queue",
        "queued one-step runs, 1 worker, over Procrastinate",
        drains("procrastinate"),
        3,
        at_least=True,
    ),
    Floor(
        "queue",
        "queued one-step runs, 1 worker, over Procrastinate",
        drains("procrastinate"),
        5,
        at_least=True,
        goal=True,
    ),
    Floor(
        "queue",
        "queued one-step runs, 1 worker, over PgQueuer, a bare queue",
        drains("pgqueuer"),
        1,
        at_least=True,
        goal=True,
    ),
    Floor(
        "queue",
        "enqueue to start, idle, p50 over a bare INSERT+COMMIT",
        quotient(
            metric("enqueue to start holdfast", "p50_ms"), metric("enqueue to start holdfast", "commit_ms")
        ),
        3,
    ),
    Floor(
        "queue",
        "enqueue to start in the same process, idle, p50 over a bare INSERT+COMMIT",
        quotient(
            metric("enqueue to start here holdfast", "p50_ms"),
            metric("enqueue to start here holdfast", "commit_ms"),
        ),
        3,
    ),
    Floor(
        "queue", "enqueue to start, idle, p99", metric("enqueue to start holdfast", "p99_ms"), 100, unit="ms"
    ),
    Floor(
        "queue",
        "1,000 runs of a killed worker, until all are taken up",
        metric("recovery holdfast", "taken_up_seconds"),
        2,
        unit="s",
    ),
    Floor(
        "queue",
        "the same, ended steps that ran again",
        metric("recovery holdfast", "first_steps_again"),
        0,
        unit="",
    ),
    Floor(
        "claims",
        "claim of 100 among 1,000,000 ended and 100,000 waiting runs over among 1,000",
        quotient(metric("claims holdfast", "many_ms"), metric("claims holdfast", "few_ms")),
        1.5,
    ),
    Floor(
        "fanout",
        "fan-out to 1,000, time over LangGraph's",
        quotient(metric("fan-out 1,000 holdfast", "seconds"), metric("fan-out 1,000 langgraph", "seconds")),
        0.2,
    ),
    Floor(
        "fanout",
        "fan-out to 1,000, time over that of 1,000 nodes with edges",
        quotient(
            metric("fan-out 1,000 holdfast", "seconds"), metric("fan-out 1,000 static holdfast", "seconds")
        ),
        1.25,  # each item has an input of its own, which is kept
    ),
    Floor("fanout", "fan-out to 1,000, commits", metric("fan-out 1,000 holdfast", "commits"), 30, unit=""),
    Floor(
        "fanout",
        "10,000 arrivals over 1,000, time",
        quotient(metric("fan-out 10,000 holdfast", "seconds"), metric("fan-out 1,000 holdfast", "seconds")),
        15,
    ),
    Floor(
        "dag",
        "1,000 independent tasks, cost of a task over Prefect's",
        quotient(per_task("holdfast", "independent"), per_task("prefect", "independent")),
        1 / 20,
    ),
    Floor(
        "dag",
        "map over 10,000, cost of an item over Prefect's",
        quotient(per_task("holdfast", "map"), per_task("prefect", "map")),
        1 / 20,
    ),
    Floor(
        "dag",
        "1,000 independent tasks, cost of a task over that of a node of a graph",
        quotient(
            per_task("holdfast", "independent"), per_node("graph holdfast, 1,000 nodes", SIZES["independent"])
        ),
        1.5,
    ),
    Floor(
        "dag",
        "map over 10,000, cost of an item over that of an item sent in a graph",
        quotient(per_task("holdfast", "map"), per_node("graph holdfast, 10,000 sent", SIZES["map"])),
        1.5,
    ),
    Floor(
        "dag",
        "map over 10,000, commits per item",
        metric(dag_key("holdfast", "map"), "commits_per_task"),
        0.05,
        unit="",
    ),
    Floor(
        "dag",
        "100 x 100 layers, cost of a task over that in a chain of 1,000",
        quotient(per_task("holdfast", "layers"), per_task("holdfast", "chain")),
        2,
    ),
    Floor(
        "dag",
        "100 x 100 layers, cost of a task over Dask's, which keeps nothing",
        quotient(per_task("holdfast", "layers"), per_task("dask", "layers")),
        1,
        goal=True,
    ),
    Floor(
        "state",
        "1 MB state, 1 KB changed, row data per step",
        lambda results: results["1 MB state holdfast"]["row_bytes_per_step"] / 1024,
        4,
        unit="KB",
    ),
    Floor(
        "reload",
        "10,000 steps from the journal alone",
        metric("reload holdfast", "journal_ms"),
        1000,
        unit="ms",
    ),
    Floor(
        "reload",
        "from a stored fold, of the larger of a twentieth of that and 20 ms",
        lambda results: (
            results["reload holdfast"]["fold_ms"] / max(results["reload holdfast"]["journal_ms"] / 20, 20)
        ),
        1,
    ),
    Floor(
        "reload",
        "the state at any position of 10,000 steps",
        metric("reload holdfast", "position_ms"),
        100,
        unit="ms",
    ),
    Floor(
        "waiting",
        "100,000 runs in back-off, memory added",
        lambda results: (
            results["waiting holdfast"]["added_mb"] * WAITING_RUNS / results["waiting holdfast"]["runs"]
        ),
        50,
        unit="MB",
    ),
    *(
        Floor(
            "machine",
            f"{runs} run{'s' if runs > 1 else ''}, steps/s of a durable machine over those of the graph",
            metric(f"machine beside graph @{runs}", "machine_over_graph"),
            0.8,
            at_least=True,
        )
        for runs in (1, 100)
    ),
    *(
        Floor(
            "machine",
            f"in memory, triggers/s over {other}",
            quotient(
                metric("trigger holdfast", "triggers_per_second"),
                metric(f"trigger {other}", "triggers_per_second"),
            ),
            1,
            at_least=True,
        )
        for other in ("transitions", "python-statemachine")
    ),
    Floor(
        "imports",
        "import holdfast over import langgraph.graph",
        quotient(metric("imports", "holdfast_ms"), metric("imports", "langgraph_ms")),
        1 / 3,
    ),
)
