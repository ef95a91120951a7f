"""Nodes that ask people, and calls inside of nodes whose results are kept."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import (
    END,
    START,
    Engine,
    RetryPolicy,
    Run,
    RunFailed,
    RunStatus,
    Send,
    SignalTimeout,
    State,
    StateGraph,
    StepContext,
    interrupt,
)
from tests.conftest import OpenEngine
from tests.graphs import sequence, until


async def waits(run: Run, *names: str) -> None:
    """Wait until the run waits for exactly these signals."""
    wanted = [f"signal {name}" for name in names]

    async def does() -> bool:
        return sorted((await run.refresh()).waiting_on) == sorted(wanted) and run.status == "waiting"

    await until(does)


def asking(log: list[Any], name: str = "approve", **options: Any) -> Callable[..., Any]:
    def ask(state: State, step: StepContext) -> dict[str, Any]:
        log.append(step.attempt)
        return {name: interrupt(name, {"document": state.get("document")}, **options)}

    return ask


async def asking_async(state: State) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"approve": interrupt("approve")}


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_node_goes_on_with_the_answer(engine: Engine, kind: str) -> None:
    node = asking([]) if kind == "plain" else asking_async
    run = await engine.start(sequence("asks", node=node), {"document": "memo"})
    await waits(run, "approve")
    await run.signal("approve", {"by": "Ada"})
    assert (await run.result(timeout=10))["approve"] == {"by": "Ada"}
    (stage,) = await run.stages()
    assert [(t.number, t.status.value, t.reason) for t in stage.attempts] == [
        (1, "suspended", "waits for approve"),
        (2, "completed", ""),
    ]


async def test_no_try_is_used_up_by_an_answer(engine: Engine) -> None:
    def node(state: State, step: StepContext) -> dict[str, Any]:
        answers = [interrupt(name) for name in "abc"]
        if step.attempt < 6:
            raise RuntimeError("not yet")
        return {"answers": answers}

    graph = StateGraph("asks").add_node("n", node, retry=RetryPolicy(attempts=3, backoff=0.01))
    run = await engine.start(graph.add_edge(START, "n").add_edge("n", END))
    for name in "abc":
        await waits(run, name)
        await run.signal(name, name.upper())
    assert (await run.result(timeout=10))["answers"] == ["A", "B", "C"]


async def test_an_answer_that_came_before_the_question_is_taken(engine: Engine) -> None:
    release = asyncio.Event()

    async def slow(state: State) -> dict[str, Any]:
        await release.wait()
        return {"approve": interrupt("approve")}

    run = await engine.start(sequence("asks", node=slow))
    await run.signal("approve", 1)
    release.set()
    assert (await run.result(timeout=10))["approve"] == 1


async def test_nodes_of_one_round_ask_at_once_and_are_answered_in_any_order(engine: Engine) -> None:
    graph = StateGraph("asks")
    for name in ("legal", "money", "press"):
        graph.add_node(name, asking([], name)).add_edge(START, name).add_edge(name, END)
    run = await engine.start(graph)
    await waits(run, "legal", "money", "press")
    for name in ("press", "legal", "money"):
        await run.signal(name, f"{name} says yes")
    result = await run.result(timeout=10)
    assert [result[name] for name in ("legal", "money", "press")] == [
        "legal says yes",
        "money says yes",
        "press says yes",
    ]


async def test_the_same_question_of_many_is_answered_in_the_order_asked(engine: Engine) -> None:
    class Answers(TypedDict):
        items: Annotated[list[str], operator.add]

    def ask(state: State) -> dict[str, Any]:
        return {"items": [f"{state['item']}:{interrupt('label')}"]}

    graph = StateGraph("asks", schema=Answers).add_node("ask", ask)
    graph.add_conditional_edge(START, lambda _: [Send("ask", {"item": n}) for n in (1, 2)], ["ask"])
    run = await engine.start(graph.add_edge("ask", END))
    await waits(run, "label", "label")
    await run.signal("label", "x")
    await run.signal("label", "y")
    result = await run.result(timeout=10)
    assert sorted(item[-1] for item in result["items"]) == ["x", "y"]


async def test_a_loop_asks_anew_in_each_round(engine: Engine) -> None:
    def ask(state: State) -> dict[str, Any]:
        return {"said": [*state.get("said", []), interrupt("more")]}

    graph = StateGraph("asks").add_node("ask", ask).add_edge(START, "ask")
    graph.add_conditional_edge("ask", lambda s: "ask" if s["said"][-1] else END, ["ask", END])
    run = await engine.start(graph)
    for answer in (True, True, False):
        await waits(run, "more")
        await run.signal("more", answer)
    assert (await run.result(timeout=10))["said"] == [True, True, False]


async def test_a_question_that_nobody_answers_in_time_raises_in_the_node(engine: Engine) -> None:
    def node(state: State) -> dict[str, Any]:
        try:
            return {"said": interrupt("approve", timeout=0.2)}
        except SignalTimeout:
            return {"said": "nobody"}

    run = await engine.start(sequence("asks", node=node))
    assert (await run.result(timeout=10))["said"] == "nobody"
    types = [(event.type, event.data.get("outcome")) async for event in run.events()]
    assert ("wait.ended", "timed_out") in types


async def test_a_run_that_failed_for_want_of_an_answer_asks_again_when_it_is_resumed(engine: Engine) -> None:
    run = await engine.start(sequence("asks", node=asking([], timeout=0.1)), {"document": "memo"})
    with pytest.raises(RunFailed, match="nobody answered 'approve' in time") as failed:
        await run.result(timeout=10)
    assert failed.value.error.code == "signal_timeout"
    await run.resume()
    await waits(run, "approve")
    await run.signal("approve", "late but welcome")
    assert (await run.result(timeout=10))["approve"] == "late but welcome"


async def test_an_answer_that_comes_in_time_stops_the_clock(engine: Engine) -> None:
    def node(state: State) -> dict[str, Any]:
        return {"one": interrupt("one", timeout=0.3), "two": interrupt("two", timeout=timedelta(days=1))}

    run = await engine.start(sequence("asks", node=node))
    await waits(run, "one")
    await run.signal("one", 1)
    await waits(run, "two")
    await asyncio.sleep(0.5)  # the first clock would have run out
    await run.signal("two", 2)
    assert await run.result(timeout=10) == {"one": 1, "two": 2}


async def test_a_name_asked_twice_in_one_attempt_fails_the_node(engine: Engine) -> None:
    def node(state: State) -> dict[str, Any]:
        return {"a": interrupt("same"), "b": interrupt("same")}

    run = await engine.start(sequence("asks", node=node))
    await waits(run, "same")
    await run.signal("same", 1)
    with pytest.raises(RunFailed, match="'same' is asked twice"):
        await run.result(timeout=10)


async def test_a_run_that_waits_can_be_cancelled(engine: Engine) -> None:
    run = await engine.start(sequence("asks", node=asking([])))
    await waits(run, "approve")
    await run.cancel()
    assert (await run.wait(timeout=10)).status is RunStatus.CANCELLED
    await run.resume()
    await waits(run, "approve")
    await run.signal("approve", 1)
    assert (await run.result(timeout=10))["approve"] == 1


async def test_a_sibling_that_fails_ends_the_wait(engine: Engine) -> None:
    gate = asyncio.Event()

    async def fails(state: State) -> None:
        await gate.wait()
        raise ValueError("no")

    graph = StateGraph("asks").add_node("ask", asking([])).add_node("fails", fails)
    for name in ("ask", "fails"):
        graph.add_edge(START, name).add_edge(name, END)
    run = await engine.start(graph)

    async def asks() -> bool:
        return (await run.refresh()).waiting_on == ("signal approve",)

    await until(asks)
    gate.set()
    with pytest.raises(RunFailed, match="ValueError: no"):
        await run.result(timeout=10)


async def test_another_engine_takes_a_waiting_run_up(url: str, open_engine: OpenEngine) -> None:
    log: list[int] = []
    graph = sequence("asks", node=asking(log))
    first = await open_engine(url)
    run = await first.start(graph, {"document": "memo"})
    await waits(run, "approve")
    await first.close()
    second = await open_engine(url)
    await second.signal(run.id, "approve", "yes")
    assert (await second.result(run.id, timeout=10))["approve"] == "yes"
    assert log == [1, 2]


@pytest.mark.parametrize("name", ["", "a#b", None, 7])
async def test_a_question_needs_a_name(engine: Engine, name: Any) -> None:
    run = await engine.start(sequence("asks", node=lambda _: interrupt(name)))
    with pytest.raises(RunFailed, match="not a name"):
        await run.result(timeout=10)


# --- calls


async def test_a_call_is_made_once_for_all_attempts(engine: Engine) -> None:
    paid: list[int] = []

    def pay(cents: int) -> dict[str, int]:
        paid.append(cents)
        return {"paid": cents}

    async def node(state: State, step: StepContext) -> dict[str, Any]:
        first = await step.call(pay, 3)
        second = await step.call(pay, cents=4)
        if step.attempt == 1:
            raise RuntimeError("after the payments")
        interrupt("approve")
        third = await step.call(pay, 5)
        return {"payments": [first, second, third]}

    graph = StateGraph("pays").add_node("n", node, retry=RetryPolicy(attempts=2, backoff=0.01))
    run = await engine.start(graph.add_edge(START, "n").add_edge("n", END))
    await waits(run, "approve")
    await run.signal("approve", True)
    assert await run.result(timeout=10) == {"payments": [{"paid": 3}, {"paid": 4}, {"paid": 5}]}
    assert paid == [3, 4, 5]
    assert [stage.name for stage in await run.stages()] == ["n"]


async def test_a_plain_node_gets_the_result_of_a_call_at_once(engine: Engine) -> None:
    async def fetch(name: str) -> tuple[str, int]:
        await asyncio.sleep(0)
        return name, len(name)

    def node(state: State, step: StepContext) -> dict[str, Any]:
        return {"fetched": step.call(fetch, "page"), "plain": step.call(len, "four")}

    assert await engine.execute(sequence("calls", node=node)) == {"fetched": ("page", 4), "plain": 4}


async def test_calls_at_once_are_told_apart_by_the_order_of_calling(engine: Engine) -> None:
    async def wait(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def node(state: State, step: StepContext) -> dict[str, Any]:
        found = await asyncio.gather(*(step.call(wait, n / 100) for n in (3, 2, 1)))
        if step.attempt == 1:
            raise RuntimeError("again")
        return {"found": found}

    graph = StateGraph("calls").add_node("n", node, retry=RetryPolicy(attempts=2, backoff=0.01))
    run = await engine.start(graph.add_edge(START, "n").add_edge("n", END))
    assert (await run.result(timeout=10))["found"] == [0.03, 0.02, 0.01]


async def test_what_a_call_raises_is_raised_in_the_node_and_not_kept(engine: Engine) -> None:
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no route")
        return "through"

    async def node(state: State, step: StepContext) -> dict[str, Any]:
        return {"call": await step.call(flaky)}

    graph = StateGraph("calls").add_node("n", node, retry=RetryPolicy(attempts=2, backoff=0.01))
    run = await engine.start(graph.add_edge(START, "n").add_edge("n", END))
    assert (await run.result(timeout=10))["call"] == "through"


async def test_a_result_that_cannot_be_kept_fails_the_node_and_names_the_call(engine: Engine) -> None:
    async def node(state: State, step: StepContext) -> None:
        await step.call(object)

    with pytest.raises(RunFailed, match=r"step\.call of 'object'"):
        await engine.execute(sequence("calls", node=node))


async def test_a_call_that_raises_stop_iteration_fails_the_node(engine: Engine) -> None:
    """A future refuses that exception, so nobody would hear of it."""

    async def node(state: State, step: StepContext) -> None:
        await step.call(lambda: next(iter(())))

    with pytest.raises(RunFailed, match="StopIteration"):
        await engine.execute(sequence("calls", node=node), timeout=10)


async def test_a_large_result_of_a_call_is_read_again(url: str, open_engine: OpenEngine) -> None:
    made: list[int] = []

    def make() -> str:
        made.append(1)
        return "x" * 100_000

    async def node(state: State, step: StepContext) -> dict[str, Any]:
        text = await step.call(make)
        interrupt("go")
        return {"length": len(text)}

    first = await open_engine(url)
    run = await first.start(sequence("calls", node=node))
    await waits(run, "go")
    await first.close()
    second = await open_engine(url)
    await second.signal(run.id, "go")
    assert (await second.result(run.id, timeout=10))["length"] == 100_000
    assert made == [1]


async def test_a_secret_in_a_question_or_a_result_is_refused(engine: Engine) -> None:
    def asks(state: State) -> None:
        interrupt("approve", {"token": state.get_secret("token")})

    async def calls(state: State, step: StepContext) -> None:
        await step.call(lambda: state.get_secret("token"))

    for node in (asks, calls):
        run = await engine.start(sequence("secret", node=node), secrets={"token": "t0p-secret"})
        with pytest.raises(RunFailed, match="contains the secret 'token'"):
            await run.result(timeout=10)
        assert "t0p-secret" not in str(await run.journal())
