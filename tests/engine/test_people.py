"""People as agents: a question waits in the store until somebody answers it, whichever process asked."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import (
    END,
    START,
    DefinitionError,
    Engine,
    RequestError,
    RunFailed,
    State,
    StateGraph,
    StepContext,
)
from holdfast.agents import AgentRequest, Person, ask
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, sequence, until


def asking(person: Person, **given: Any) -> Any:
    async def node(state: State, step: StepContext) -> dict[str, Any]:
        request = AgentRequest(task=step.name, secrets=step.secrets, **given)
        return {step.name: await ask(person, request)}

    return node


async def test_a_person_is_asked_and_answers_in_any_process(url: str, open_engine: OpenEngine) -> None:
    node = asking(
        Person("legal"), instructions="May we?", params={"text": "…"}, results={"before": 1}, images=(b"png",)
    )
    first = await open_engine(url)
    run = await first.start(sequence("asks", review=node), secrets={"token": "t0p-secret"})
    await until(lambda: _asked(first))
    (asked,) = await first.interrupts()
    assert (asked.name, asked.node) == ("legal/review", "review")
    assert asked.payload == {
        "task": "review",
        "instructions": "May we?",
        "params": {"text": "…"},
        "results": {"before": 1},
        "images": [b"png"],
    }
    await first.close()
    second = await open_engine(url)
    await second.signal(run.id, "legal/review", {"yes": True})
    await second.resume(run.id, secrets={"token": "t0p-secret"})
    assert await second.result(run.id, timeout=PATIENCE) == {"review": {"yes": True}}


async def _asked(engine: Engine) -> bool:
    return bool(await engine.interrupts())


async def test_two_people_are_asked_at_once(engine: Engine) -> None:
    graph = (
        StateGraph("both").add_node("law", asking(Person("legal"))).add_node("cost", asking(Person("money")))
    )
    graph.add_edge(START, "law").add_edge(START, "cost").add_edge("law", END).add_edge("cost", END)
    run = await engine.start(graph)
    await until(lambda: _both(run))
    await run.signal("money/cost", 7)
    await run.signal("legal/law", "fine")
    assert await run.result() == {"law": "fine", "cost": 7}


async def _both(run: Any) -> bool:
    return {each.name for each in await run.interrupts()} == {"legal/law", "money/cost"}


async def test_a_person_who_does_not_answer_in_time_fails_the_node(engine: Engine) -> None:
    with pytest.raises(RunFailed, match="nobody answered 'legal/review' in time"):
        await engine.execute(sequence("late", review=asking(Person("legal", timeout=0.05))))


async def test_outside_of_a_node_nobody_can_be_asked() -> None:
    with pytest.raises(RequestError, match="outside of a step"):
        await ask(Person("legal"), AgentRequest(task="review"))


@pytest.mark.parametrize(("queue", "timeout"), [("", None), (7, None), ("legal", -1), ("legal", "soon")])
def test_what_is_no_person_is_refused(queue: Any, timeout: Any) -> None:
    with pytest.raises(DefinitionError, match="Person"):
        Person(queue, timeout)
