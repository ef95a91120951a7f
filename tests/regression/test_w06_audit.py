"""W6: the audit had gaps: no error texts, no reasons, no names of edges, nothing of edges not taken or of a resume.

Each attempt keeps its error, each choice every edge that was tried with name, outcome and reason, and all is told once.
"""

from __future__ import annotations

from holdfast import END, START, Engine, State, StateGraph, StepContext
from tests.graphs import nothing


def graph() -> StateGraph:
    def check(state: State, step: StepContext) -> None:
        if step.attempt == 1:
            raise ValueError(f"page {state['page']} is upside down")

    made = StateGraph("w06")
    for name, node in (("check", check), ("high", nothing), ("low", nothing), ("rest", nothing)):
        made.add_node(name, node)
    made.add_edge(START, "check")
    made.add_edge("check", "high", when=lambda s: s["score"] > 8, name="a good score")
    made.add_edge("check", "low", when=lambda s: s["score"] < 3, name="a bad score")
    made.add_edge("check", "rest")
    return made.add_edge("high", END).add_edge("low", END).add_edge("rest", END)


async def test_the_error_of_each_attempt_is_kept_and_told_once(engine: Engine) -> None:
    run = await engine.start(graph(), {"score": 5, "page": 3})
    await run.wait()
    await run.resume()
    await run.wait()
    stage = (await run.stages())[0]
    first, second = stage.attempts
    assert first.error is not None
    assert (first.error.type, first.error.message) == ("ValueError", "page 3 is upside down")
    assert "in check" in first.error.traceback
    assert second.error is None
    assert first.started_at is not None
    assert first.worker == second.worker
    failures = [event async for event in run.events(types=["stage.failed"])]
    assert [event.data["error"]["message"] for event in failures] == ["page 3 is upside down"]


async def test_every_edge_of_every_choice_is_kept_also_after_a_resume(engine: Engine) -> None:
    run = await engine.start(graph(), {"score": 2, "page": 3})
    await run.wait()
    await run.resume()
    await run.wait()
    told = [(d.from_node, d.to_node, d.name, d.result, d.reason) for d in await run.decisions()]
    assert told == [
        (START, "check", "", True, "always"),
        ("check", "high", "a good score", False, "did not hold"),
        ("check", "low", "a bad score", True, "held"),
        ("check", "rest", "", False, "default not needed"),
        ("low", END, "", True, "always"),
    ]
    assert all(d.position for d in await run.decisions())
    (event,) = [e async for e in run.events(types=["decision"]) if e.data["from_node"] == "check"]
    assert (event.data["to_node"], event.data["name"], event.data["reason"]) == ("low", "a bad score", "held")
    assert len(event.data["edges"]) == 3
