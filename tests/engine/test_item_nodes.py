"""Nodes that process items: each is one call that is kept; what fails, asks or dies is done again, the rest is not."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest

from holdfast import (
    ChainConfig,
    Engine,
    ParallelConfig,
    RetryPolicy,
    Run,
    RunCancelled,
    RunFailed,
    State,
    chain_node,
    conditional_node,
    interrupt,
    parallel_node,
)
from holdfast.errors import ChainError, ConditionalError, DefinitionError, ParallelError
from holdfast.processing import ParallelResult
from tests.conftest import OpenEngine
from tests.graphs import Gate, sequence, until


async def asked(run: Run, name: str) -> None:
    """Wait until the run waits for the answer to that question."""

    async def asks() -> bool:
        return name in [question.name for question in await run.interrupts()]

    await until(asks)


AGAIN = {"retry": RetryPolicy(attempts=2, backoff=0.01)}


def listed(result: ParallelResult[Any], state: State) -> dict[str, Any]:
    """Gather everything under two keys."""
    return {"results": result.results, "failed": [error.index for error in result.errors]}


class Flaky:
    """Doubles a number; the first time it fails for those that it is told to."""

    def __init__(self, *bad: int) -> None:
        self.bad = set(bad)
        self.times: Counter[int] = Counter()

    def double(self, number: int) -> int:
        self.times[number] += 1
        if number in self.bad and self.times[number] == 1:
            raise ConnectionError(f"no {number}")
        return number * 2

    async def double_later(self, number: int) -> int:
        await asyncio.sleep(0)
        return self.double(number)


# --- in parallel


@pytest.mark.parametrize("form", ["double", "double_later"])
@pytest.mark.parametrize(
    "items", [range(6), "numbers", lambda state: state["numbers"]], ids=["list", "key", "function"]
)
async def test_after_a_failure_only_what_had_not_finished_is_done_again(
    engine: Engine, items: Any, form: str
) -> None:
    flaky = Flaky(3)
    told: list[tuple[int, int, int]] = []
    node = parallel_node(
        items,
        getattr(flaky, form),
        listed,
        ParallelConfig(max_workers=2),
        lambda done, total, result: told.append((done, total, result)),
    )
    graph = sequence("items", numbers=lambda _: {"numbers": list(range(6))}, work=(node, AGAIN))
    state = await engine.execute(graph)
    assert state["results"] == [0, 2, 4, 6, 8, 10]
    assert flaky.times == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1, 5: 1}
    assert [done for done, *_ in told[-6:]] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in told} == {6}


async def test_a_generator_is_read_once_for_all_runs(engine: Engine) -> None:
    graph = sequence("items", work=parallel_node((n for n in range(3)), Flaky().double, listed))
    assert [(await engine.execute(graph))["results"] for _ in range(2)] == [[0, 2, 4]] * 2


async def test_errors_reach_who_gathers(engine: Engine) -> None:
    node = parallel_node([1, 2, 3], Flaky(2).double, listed, ParallelConfig(fail_fast=False))
    assert await engine.execute(sequence("items", work=node)) == {"results": [2, 6], "failed": [1]}


async def test_a_failed_item_fails_the_node_with_the_partial_result(engine: Engine) -> None:
    flaky = Flaky(2)
    node = parallel_node([1, 2, 3], flaky.double, listed, ParallelConfig(max_workers=1))
    run = await engine.start(sequence("items", work=node))
    with pytest.raises(RunFailed, match="item 1: no 2") as caught:
        await run.result()
    assert isinstance(caught.value.__cause__, ParallelError)
    assert caught.value.__cause__.result.results == [2]
    assert flaky.times == {1: 1, 2: 1}
    await run.resume()
    assert (await run.result())["results"] == [2, 4, 6]
    assert flaky.times == {1: 1, 2: 2, 3: 1}


async def test_items_that_finish_together_share_a_commit(engine: Engine) -> None:
    gate = asyncio.Event()
    begun: list[int] = []

    async def wait(number: int) -> int:
        begun.append(number)
        if len(begun) == 50:
            gate.set()
        await gate.wait()
        return number

    node = parallel_node(range(50), wait, listed, ParallelConfig(max_workers=50))
    run = await engine.start(sequence("items", work=node))
    assert (await run.result())["results"] == list(range(50))
    calls = [f for f in await run.journal() if f["fact"] == "StepCompleted" and "/wait#" in f["step"]]
    assert len(calls) == 50
    assert len(await engine.store.journal(run.id)) <= 4  # started, all items, the node's end and the run's


async def test_an_item_may_ask_and_the_others_are_not_done_again(engine: Engine) -> None:
    flaky = Flaky()

    def check(number: int) -> str:
        doubled = flaky.double(number)
        return str(interrupt(f"approve-{number}", doubled)) if number % 2 else "fine"

    run = await engine.start(sequence("items", work=parallel_node(range(4), check, listed)))
    for number in (1, 3):
        await asked(run, f"approve-{number}")
        await run.signal(f"approve-{number}", f"answer {number}")
    assert (await run.result())["results"] == ["fine", "answer 1", "fine", "answer 3"]
    assert flaky.times[0] == flaky.times[2] == 1


async def test_a_cancelled_run_keeps_what_had_finished(engine: Engine) -> None:
    gate = Gate()

    async def item(number: int) -> int:
        if number == 1:
            await gate.passed()
        return number

    run = await engine.start(sequence("items", work=parallel_node([0, 1], item, listed)))
    await gate.until_reached()
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    ended = [f["step"] for f in await run.journal() if f["fact"] == "StepCompleted"]
    assert [step for step in ended if "/" in step] == ["work#1/item#1"]


# --- one after another


async def test_a_chain_goes_on_where_it_was(engine: Engine) -> None:
    times: Counter[str] = Counter()

    def add(word: str, state: State) -> State:
        times[word] += 1
        if word == "three" and times[word] == 1:
            raise ConnectionError("lost")
        return state.set("text", f"{state.get('text', '')}{word} ").delete("old")

    graph = sequence(
        "chain",
        begin=lambda _: {"words": ["one", "two", "three", "four"], "old": 1},
        work=(chain_node("words", add), AGAIN),
    )
    state = await engine.execute(graph)
    assert (state["text"], "old" in state) == ("one two three four ", False)
    assert times == {"one": 1, "two": 1, "three": 2, "four": 1}


async def test_a_step_of_a_chain_keeps_only_what_it_changed(engine: Engine) -> None:
    async def step(item: int, state: State) -> Any:
        match item:
            case 0:
                return state.set("passing", 1).set("kept", "x" * 1000)
            case 1:
                assert state["passing"] == 1
                return state.delete("passing")
            case 2:
                return {"sum": sum(range(5)), "pair": (1, 2)}
            case _:
                assert "passing" not in state
                assert state["pair"] == (1, 2)
                return None

    run = await engine.start(sequence("chain", work=chain_node(range(4), step)))
    assert await run.result() == {"kept": "x" * 1000, "sum": 10, "pair": (1, 2)}
    kept = [f for f in await run.journal() if f["fact"] == "StepCompleted" and "/step#" in f["step"]]
    assert len(kept) == 4
    assert [len(str(fact["data"])) > 1000 for fact in kept] == [True, False, False, False]


async def test_a_chain_reads_a_large_value_of_an_item_again(url: str, open_engine: OpenEngine) -> None:
    times: Counter[int] = Counter()

    def step(item: int, state: State) -> State:
        times[item] += 1
        if item == 1:
            interrupt("go")
        return state.set(f"large{item}", str(item) * 100_000)

    first = await open_engine(url)
    run = await first.start(sequence("chain", work=chain_node([0, 1], step)))
    await asked(run, "go")
    await first.close()
    second = await open_engine(url)
    await second.signal(run.id, "go")
    assert await second.result(run.id) == {"large0": "0" * 100_000, "large1": "1" * 100_000}
    assert times == {0: 1, 1: 2}


async def test_a_failed_step_of_a_chain_fails_the_node(engine: Engine) -> None:
    def step(item: int, state: State) -> State:
        return state.set("n", 6 // item)

    with pytest.raises(RunFailed, match="chain failed at step 1") as caught:
        await engine.execute(sequence("chain", work=chain_node([2, 0], step)))
    cause = caught.value.__cause__
    assert isinstance(cause, ChainError)
    assert (cause.step_index, cause.item, cause.state["n"]) == (1, 0, 3)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (lambda _, state: state.set_secret("pin", "t0p-secret"), "changed the secrets"),
        (lambda *_: {"pin": "t0p-secret"}, "contains the secret"),
        (lambda *_: 7, "returned int"),
        (lambda *_: {"bad": object()}, "bad"),
    ],
)
async def test_what_a_step_of_a_chain_may_not_give(engine: Engine, step: Any, told: str) -> None:
    graph = sequence("chain", work=chain_node([1], step))
    secrets = {"token": "t0p-secret"} if "contains" in told else {}
    run = await engine.start(graph, secrets=secrets)
    with pytest.raises(RunFailed, match=told):
        await run.result()
    assert "t0p-secret" not in str(await run.journal())


class Trail(TypedDict, total=False):
    trail: Annotated[list[str], operator.add]


async def test_a_reducer_acts_on_what_the_whole_chain_gives(engine: Engine) -> None:
    graph = sequence(
        "chain",
        schema=Trail,
        begin=lambda _: {"trail": ["begin"]},
        work=chain_node(["a", "b"], lambda item, _: {"trail": [item]}),
    )
    assert await engine.execute(graph) == {"trail": ["begin", "b"]}


# --- on a route


async def test_every_attempt_takes_the_same_route(engine: Engine) -> None:
    routes = iter(["first", "second"])
    taken: list[str] = []

    async def first(state: State) -> dict[str, int]:
        taken.append("first")
        if len(taken) == 1:
            raise ConnectionError("lost")
        return {"n": 1}

    node = conditional_node(lambda _: next(routes), {"first": first, "second": lambda _: {"n": 2}})
    assert await engine.execute(sequence("route", work=(node, AGAIN))) == {"n": 1}
    assert taken == ["first", "first"]


async def test_a_handler_may_ask(engine: Engine) -> None:
    node = conditional_node(lambda _: "x", {}, default=lambda state: state.set("by", interrupt("who")))
    run = await engine.start(sequence("route", work=node))
    await asked(run, "who")
    await run.signal("who", "Ada")
    assert await run.result() == {"by": "Ada"}


async def test_an_unknown_route_fails_the_node(engine: Engine) -> None:
    node = conditional_node(lambda _: "lost", {"known": lambda _: None})
    with pytest.raises(RunFailed, match="route 'lost' not found and no default handler") as caught:
        await engine.execute(sequence("route", work=node))
    assert isinstance(caught.value.__cause__, ConditionalError)


# --- what cannot be


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: parallel_node(5, len, listed), "type int"),  # type: ignore[arg-type]
        (lambda: parallel_node([], 5, listed), "parallel_node: fn=5"),  # type: ignore[arg-type]
        (lambda: parallel_node([], len, None), "parallel_node: gather=None"),  # type: ignore[arg-type]
        (lambda: chain_node(None, len), "type NoneType"),  # type: ignore[arg-type]
        (lambda: chain_node([], "x"), "chain_node: fn='x'"),  # type: ignore[arg-type]
        (
            lambda: chain_node([], max, ChainConfig(capture_intermediate_states=True)),
            "capture_intermediate_states=True",
        ),
        (lambda: conditional_node(1, {}), "predicate=1"),  # type: ignore[arg-type]
        (lambda: conditional_node(str, []), "routes="),  # type: ignore[arg-type]
        (lambda: conditional_node(str, {"a": 1}), "route 'a'=1"),  # type: ignore[dict-item]
        (lambda: conditional_node(str, {}, default=1), "default=1"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_node_is_refused_when_it_is_built(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        make()


@pytest.mark.parametrize(("value", "told"), [(5, "the state's 'items' is of type int"), ("ab", "type str")])
async def test_a_state_without_items_fails_the_node(engine: Engine, value: Any, told: str) -> None:
    graph = sequence("items", begin=lambda _: {"items": value}, work=parallel_node("items", len, listed))
    with pytest.raises(RunFailed, match=told):
        await engine.execute(graph)
