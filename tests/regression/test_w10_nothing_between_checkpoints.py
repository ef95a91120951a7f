"""W10: checkpoints had gaps: none before the first node, every N nodes, and a resume began to count anew.

Every result is a commit of its own, numbers and budgets count on, a failed first node resumes, and an end is the end.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holdfast import END, Engine, GraphConfig, InvalidStatus, RunFailed, RunStatus, State, StepContext
from tests.crash.processes import KILLED, check_all, read_log, recovered, run_child
from tests.graphs import nothing, sequence


async def test_a_failure_in_the_very_first_node_can_be_resumed(engine: Engine) -> None:
    def node(state: State, step: StepContext) -> dict[str, int]:
        if step.attempt == 1:
            raise ConnectionError
        return {"n": state["n"] + 1}

    run = await engine.start(sequence("w10", node=node), {"n": 1})
    await run.wait()
    assert await run.state() == {"n": 1}
    await run.resume()
    assert await run.result() == {"n": 2}


@pytest.mark.parametrize("n", [3, 6, 9])
async def test_no_finished_node_is_run_again_after_a_kill(url: str, tmp_path: Path, n: int) -> None:
    log = tmp_path / "log"
    log.touch()
    runs = {"w10": ("wide", {"log": str(log), "size": 3})}
    assert await run_child(url, runs, "--kill", "after", "commit", n) == KILLED
    async with Engine(url, workers=False, observers=()) as engine:
        finished = {f["step"] for f in await engine.journal("w10") if f["fact"] == "StepCompleted"}
    before = read_log(log)
    await recovered(url, runs)
    await check_all(url, log)
    again = {step for (_, step, _) in read_log(log) - before}
    assert finished & again == set()


async def test_iterations_and_their_budget_count_on(engine: Engine) -> None:
    def node(state: State, step: StepContext) -> dict[str, int]:
        if state["n"] in (2, 4) and step.attempt == 1:
            raise ConnectionError
        return {"n": state["n"] + 1}

    graph = sequence("w10", config=GraphConfig(max_iterations=6), node=node)
    graph.edges.pop("node")
    graph.add_conditional_edge("node", lambda _: "node", ["node", END])
    run = await engine.start(graph, {"n": 0})
    for _ in range(2):
        assert (await run.wait()).status is RunStatus.FAILED
        await run.resume()
    with pytest.raises(RunFailed, match=r"max iterations \(6\) exceeded"):
        await run.result()
    assert [(stage.iteration, stage.attempt) for stage in await run.stages()] == [
        *((1, 1), (2, 1), (3, 2)),
        *((4, 1), (5, 2), (6, 1)),
    ]


async def test_an_end_is_the_end_also_of_a_node_with_other_ways_on(engine: Engine) -> None:
    calls: list[str] = []
    graph = sequence("w10", last=nothing, beyond=lambda _: calls.append("beyond"))
    graph.edges.pop("last")
    graph.add_edge("last", END, when=lambda s: s["done"]).add_edge("last", "beyond")
    run = await engine.start(graph, {"done": True})
    await run.wait()
    with pytest.raises(InvalidStatus):
        await run.resume()
    assert calls == []


async def test_the_history_is_kept_and_not_overwritten(engine: Engine) -> None:
    run = await engine.start(
        sequence("w10", a=lambda _: {"n": 1}, b=lambda _: {"n": 2}, c=lambda _: {"n": 3})
    )
    await run.wait()
    states = [await run.state(at=n) for n in range(1, run.position + 1)]
    assert [json.loads(text) for text in dict.fromkeys(map(json.dumps, states))] == [
        {},
        {"n": 1},
        {"n": 2},
        {"n": 3},
    ]
