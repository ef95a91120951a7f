"""DAGs built by functions: calls, `>>`, groups, maps, and the forms of other systems."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import DAGWorkflow, DefinitionError, Engine, PayloadRejected, RetryPolicy, StepContext, Task
from holdfast.dags import (
    Skip,
    branch,
    chain,
    chord,
    chunks,
    dag,
    group,
    short_circuit,
    starmap,
    task,
    task_group,
)


@task
def one() -> int:
    return 1


@task
def add(a: int, b: int = 10) -> int:
    return a + b


@task(name="total")
async def summed(values: list[int]) -> int:
    return sum(values)


def test_calls_pass_results_params_and_values() -> None:
    @dag
    def numbers(start: int, step_size: int = 5) -> None:
        """Add some numbers."""
        first = add(start, 1)
        second = add(first, b=step_size)
        summed([first, second, 100])

    assert (numbers.name, numbers.description) == ("numbers", "Add some numbers.")
    assert numbers.execute({"start": 1}) == {"add": 2, "add_2": 7, "total": 109}
    assert numbers.execute({"start": 1, "step_size": 1}) == {"add": 2, "add_2": 3, "total": 105}
    with pytest.raises(PayloadRejected, match="'start' is missing"):
        numbers.execute()
    with pytest.raises(PayloadRejected, match="start: expected int, got str"):
        numbers.execute({"start": "one"})
    assert numbers.schema()["required"] == ["start"]


def test_a_task_function_is_the_function_elsewhere() -> None:
    assert add(1, 2) == 3


def test_a_call_that_does_not_fit_is_refused_where_it_is_written() -> None:
    with pytest.raises(DefinitionError, match=r"add\(a: 'int', b: 'int' = 10\) -> 'int' cannot be called so"):

        @dag
        def wrong() -> None:
            add()


def test_edges_without_results() -> None:
    order: list[str] = []
    names = DAGWorkflow(max_parallel=1)
    a, b, c, d = (names.add_task(name, lambda name=name: order.append(name)) for name in "dcba")
    a >> [b, c] >> d
    names.execute()
    assert order == ["d", "c", "b", "a"]
    assert names.tasks["a"].depends_on == ("c", "b")
    e = names.add_task("e", lambda: order.append("e"))
    e >> a
    assert names.topological_sort()[0] == "e"
    d >> e
    with pytest.raises(DefinitionError, match="it has a cycle: d -> c -> a -> e -> d"):
        names.validate()


def test_a_task_may_also_depend_on_one_by_its_name() -> None:
    done: list[str] = []

    @dag
    def two() -> None:
        task(lambda: done.append("second"), name="second", depends_on="first")()
        task(lambda: done.append("first"), name="first")()

    two.execute()
    assert done == ["first", "second"]


def test_maps_and_fixed_arguments() -> None:
    @dag
    def mapped(ns: list[int]) -> None:
        items = add.map(ns, 1)
        tens = add.options(name="tens", limit=2).map(items, b=one())
        pairs = starmap(add.options(name="pairs"), [[1, 2], {"a": 3}])
        both = chunks(add.options(name="both"), [1, 2, 3], 2)
        summed(group(tens, pairs, both)[1])

    assert mapped.execute({"ns": [1, 2]}) == {
        "add": [2, 3],
        "one": 1,
        "tens": [3, 4],
        "pairs": [3, 13],
        "both": [11, 12, 13],
        "total": 16,
    }
    assert mapped.tasks["both"].batch == 2


def test_chain_group_and_chord() -> None:
    @dag
    def forms() -> None:
        chain(one, add, add.options(name="twice"))
        chord([one(), one.options(name="uno")()], summed)
        chain(
            one.options(name="x")(),
            [one.options(name="y")(), one.options(name="z")()],
            one.options(name="end")(),
        )

    result = forms.execute()
    assert (result["twice"], result["total"]) == (21, 2)
    assert forms.tasks["y"].depends_on == forms.tasks["z"].depends_on == ("x",)
    assert forms.tasks["end"].depends_on == ("y", "z")


def test_groups_name_their_tasks_and_give_them_defaults() -> None:
    @dag
    def grouped() -> None:
        first = one()
        with task_group("clean", retry=RetryPolicy(attempts=7), timeout=9) as clean:
            a = add(1)
            with task_group("deep"):
                add.options(timeout=3)(a)
        last = one.options(name="last")()
        first >> clean >> last

    tasks = grouped.tasks
    assert list(tasks) == ["one", "clean.add", "clean.deep.add", "last"]
    assert tasks["clean.add"].depends_on == ("one",)
    assert tasks["clean.deep.add"].depends_on == ("clean.add",)
    assert tasks["last"].depends_on == ("clean.deep.add",)
    assert [tasks[name].timeout for name in ("clean.add", "clean.deep.add", "last")] == [9, 3, None]
    assert [getattr(each.retry, "attempts", 0) for each in tasks.values()] == [0, 7, 7, 0]
    assert grouped.execute()["clean.deep.add"] == 21


async def test_choices_steps_and_params(engine: Engine) -> None:
    @task
    @branch
    def pick(size: int) -> str:
        return "small" if size < 10 else "large"

    @task
    @short_circuit
    def is_open() -> bool:
        return False

    @task
    def told(word: str, params: dict[str, Any], step: StepContext) -> list[Any]:
        return [word, params["size"], step.name]

    @task
    def nothing() -> None:
        raise Skip

    @dag(max_parallel=2)
    def chosen(size: int) -> None:
        pick(size) >> [told.options(name="small")("s"), told.options(name="large")("l")]
        is_open() >> told.options(name="never")("n")
        nothing() >> told.options(name="nor")("n")

    result = await engine.execute(chosen, {"size": 12})
    assert result == {"pick": "large", "large": ["l", 12, "large"], "is_open": False}


async def test_a_group_is_mapped_as_a_dag_of_its_own(engine: Engine) -> None:
    @dag
    def each(n: int) -> None:
        doubled = add.options(name="doubled")(n, n)
        add.options(name="more").map([1, 2], doubled)

    @dag
    def outer(ns: list[int]) -> None:
        task(each).map(ns)

    result = await engine.execute(outer, {"ns": [1, 2]})
    assert result == {"each": [{"doubled": 2, "more": [3, 4]}, {"doubled": 4, "more": [5, 6]}]}


def test_what_only_makes_sense_in_a_dag_is_refused_elsewhere() -> None:
    with pytest.raises(DefinitionError, match="outside of a @dag function"):
        add.map([1])
    with pytest.raises(DefinitionError, match="outside of a @dag function"), task_group("g"):
        pass
    with pytest.raises(DefinitionError, match="5 is no task"):
        Task("a", one.fn) >> 5
