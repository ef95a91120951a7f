"""W14: observers wrote history in four round trips per node, beside the run; "complete" was told before it was stored.

A step is one commit that holds result, decision and what follows; observers read it afterwards and cost a run nothing.
"""

from __future__ import annotations

from typing import Any

from holdfast import Engine, Observer, RunStatus, State, StepContext
from holdfast.model.event import RunEvent
from tests.conftest import OpenEngine
from tests.graphs import Gate, nothing, sequence, until
from tests.stored import rows


class Auditor(Observer):
    """Looks into the database, with a connection of its own, at the moment it is told something."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.found: list[tuple[str, bool]] = []

    def on_event(self, event: RunEvent) -> None:
        query = "SELECT position, status FROM workflow_runs WHERE id = ?"
        ((position, status),) = rows(self.url, query, event.run_id)
        stored = position >= event.position
        if event.type == "run.completed":
            stored = stored and status == "completed"
        self.found.append((event.type, stored))


async def test_what_is_told_is_stored(url: str, open_engine: OpenEngine) -> None:
    auditor = Auditor(url)
    engine = await open_engine(url, observers=[auditor])
    await engine.execute(sequence("w14", a=nothing, b=nothing))
    await engine.close()
    assert [kind for kind, stored in auditor.found if not stored] == []
    assert [kind for kind, _ in auditor.found][-1] == "run.completed"


async def test_a_node_costs_one_commit_whatever_is_kept_of_it(engine: Engine) -> None:
    nodes: dict[str, Any] = {f"node{n}": lambda s: {"n": s["n"] + 1} for n in range(20)}
    run = await engine.start(sequence("w14", **nodes), {"n": 0, "untouched": "x" * 10_000})
    await run.wait()
    rows = await engine.store.journal(run.id)
    assert len(rows) == 21
    # What changed is stored, not the whole state at every node: params, first state, result, and a little per node.
    assert sum(len(row.facts) for row in rows) < 3 * 10_000 + 20 * 600
    assert len(await run.stages()) == 20


async def test_an_observer_that_raises_or_hangs_changes_nothing(
    any_url: str, open_engine: OpenEngine
) -> None:
    gate = Gate()

    class Hanging(Observer):
        def on_event(self, event: RunEvent) -> None:
            gate.wait()

    class Raising(Observer):
        async def on_event(self, event: RunEvent) -> None:
            raise RuntimeError("the audit is down")

    engine = await open_engine(any_url, observers=[Hanging(), Raising()])
    run = await engine.start(sequence("w14", a=nothing))
    assert (await run.wait(timeout=10)).status is RunStatus.COMPLETED
    gate.open()


async def test_a_result_that_was_refused_is_told_to_nobody(url: str, open_engine: OpenEngine) -> None:
    class Listener(Observer):
        def __init__(self) -> None:
            self.heard: list[tuple[str, int | None]] = []

        async def on_event(self, event: RunEvent) -> None:
            if event.type.startswith("stage."):
                self.heard.append((event.type, event.data["attempt"]))

    first, second, gate, calls = Listener(), Listener(), Gate(), []

    def node(state: State, step: StepContext) -> None:
        calls.append(step.attempt)
        gate.wait()

    loser = await open_engine(url, observers=[first])
    run = await loser.start(sequence("w14", node=node))
    await gate.until_reached()
    (worker,) = [row.id for row in await loser.store.workers()]
    winner = await open_engine(url, observers=[second])
    await winner.store.reclaim([worker], "died")
    await until(lambda: calls == [1, 2])
    gate.open()
    await winner.wait(run.id, timeout=10)
    await loser.close()
    await winner.close()
    assert first.heard == [("stage.scheduled", 1)]
    assert second.heard == [("stage.retried", 2), ("stage.completed", 2)]
