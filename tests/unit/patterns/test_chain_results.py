"""What processing items decides: how many workers, what is kept in which order, which errors end it, which route."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from holdfast import State
from holdfast.errors import ChainError, ConditionalError, DefinitionError, ParallelError, TaskError
from holdfast.patterns.chain.results import Gathering, handler_of, items_of, pool_size, worker_count


@pytest.mark.parametrize(
    ("items", "processors", "max_workers", "cap", "workers"),
    [
        (100, 4, 0, 16, 8),
        (100, 64, 0, 16, 16),
        (3, 64, 0, 16, 3),
        (0, 64, 0, 16, 1),
        (100, 4, 0, 0, 1),
        (3, 4, 7, 2, 7),
    ],
)
def test_workers(items: int, processors: int, max_workers: int, cap: int, workers: int) -> None:
    assert worker_count(items, processors, max_workers, cap) == workers


def test_a_pool_has_a_worker_per_processor() -> None:
    assert [pool_size(n, 4) for n in (0, 1, 4, 100)] == [1, 1, 4, 4]


def test_outcomes_come_in_the_order_of_the_items_whoever_ended_first() -> None:
    for order in permutations(range(4)):
        gathering: Gathering[int] = Gathering("abcd", fail_fast=False)
        for index in order:
            if index % 2:
                gathering.fail(index, ValueError(f"no {index}"))
            else:
                gathering.keep(index, index * 10)
        done = gathering.finished()
        assert done.results == [0, 20]
        assert [(error.index, error.item, str(error)) for error in done.errors] == [
            (1, "b", "item 1: no 1"),
            (3, "d", "item 3: no 3"),
        ]
        assert gathering.succeeded == 2


@pytest.mark.parametrize("fail_fast", [True, False])
def test_which_failures_end_it(fail_fast: bool) -> None:
    gathering: Gathering[int] = Gathering("ab", fail_fast=fail_fast)
    assert gathering.finished().results == []
    gathering.fail(0, ValueError("bad"))
    assert gathering.stopped is fail_fast
    with pytest.raises(ParallelError, match="item 0: bad"):
        gathering.finished()
    gathering.keep(1, 1)
    if fail_fast:
        with pytest.raises(ParallelError) as caught:
            gathering.finished()
        assert caught.value.result.results == [1]
    else:
        assert gathering.finished().results == [1]


def failed(*errors: BaseException) -> ParallelError:
    gathering: Gathering[int] = Gathering(range(len(errors)), fail_fast=True)
    for index, error in enumerate(errors):
        gathering.fail(index, error)
    return ParallelError(gathering.result())


def test_many_errors_are_counted_by_their_texts() -> None:
    one, three = ValueError("one"), [KeyError("k") for _ in range(3)]
    error = failed(one, *three)
    assert str(error) == "4 items failed with 2 error types: ''k'' (3 items), 'one' (1 item)"
    assert [each.error for each in error.errors] == [one, *three]
    assert error.__cause__ is one
    assert (
        str(failed(TimeoutError(), TimeoutError()))
        == "2 items failed with 1 error type: 'TimeoutError' (2 items)"
    )
    assert str(failed(one)) == "item 0: one"


def test_errors_say_where_and_keep_their_cause() -> None:
    cause = ValueError("why")
    errors: list[tuple[TaskError | ChainError | ConditionalError, str]] = [
        (TaskError(3, "x", cause), "item 3: why"),
        (ChainError(2, "c", "ab", cause), "chain failed at step 2: why"),
        (ConditionalError("high", {}, cause), "conditional failed on route 'high': why"),
        (ConditionalError("", {}, cause), "conditional failed: why"),
    ]
    for error, message in errors:
        assert str(error) == message
        assert error.__cause__ is error.error is cause
    assert len({error.code for error, _ in errors}) == 3


def test_routes() -> None:
    routes: dict[Any, Any] = {"a": int, True: float}
    assert handler_of("a", routes, None) == ("a", int)
    assert handler_of(True, routes, None) == ("True", float)
    assert handler_of("x", routes, str) == ("default", str)
    assert handler_of([], routes, str) == ("default", str)
    with pytest.raises(DefinitionError, match="route 'x' not found and no default handler") as caught:
        handler_of("x", routes, None)
    assert "a, True" in caught.value.fix


def test_items_come_from_a_list_or_from_the_state() -> None:
    state = State({"pages": [1, 2], "text": "ab"})
    assert items_of(iter("xy"), state) == ["x", "y"]
    assert items_of("pages", state) == [1, 2]
    assert items_of(lambda s: (p * 2 for p in s["pages"]), state) == [2, 4]
    for wrong, message in (("none", "the state's 'none' is of type NoneType"), ("text", "of type str")):
        with pytest.raises(DefinitionError, match=message):
            items_of(wrong, state)
    with pytest.raises(DefinitionError, match="what the items are is of type int"):
        items_of(lambda _: 5, state)  # type: ignore[arg-type, return-value]
