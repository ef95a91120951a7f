"""Checkpoints: where rounds end in a journal, and the stores that keep them by name."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import (
    CheckpointConfig,
    DefinitionError,
    GraphConfig,
    State,
    StateGraph,
    get_checkpoint_store,
    register_checkpoint_store,
)
from holdfast.core.checkpoints import Checkpointing, MemoryCheckpointStore, Rounds, checkpointing_of
from holdfast.errors import RunNotFound
from holdfast.model import facts
from holdfast.model.audit import Checkpoint
from holdfast.patterns.graph.factory import GraphWorkflow, from_graph
from tests.graphs import nothing, sequence


def scheduled(step: str, parent: str = "") -> facts.StepScheduled:
    return facts.StepScheduled(at=1, step=step, name=step.partition("#")[0], parent=parent)


def done(step: str) -> facts.StepCompleted:
    return facts.StepCompleted(at=2, step=step, attempt=1)


def failed(step: str) -> facts.StepFailed:
    error = facts.ErrorInfo(code="step_failed", message="no", type="ValueError")
    return facts.StepFailed(at=2, step=step, attempt=1, error=error)


def found(*journal: facts.Fact) -> list[tuple[int, str, int]]:
    rounds = Rounds()
    made = (rounds.absorb(position, fact) for position, fact in enumerate(journal, 1))
    return [(each.position, each.node, each.round) for each in made if each is not None]


def test_a_round_ends_with_its_last_result() -> None:
    journal = (
        facts.RunStarted(workflow="w"),
        scheduled("START#1"),
        done("START#1"),
        scheduled("a#1"),
        scheduled("b#1"),
        scheduled("b#2"),
        done("b#1"),
        done("a#1"),
        done("b#2"),
        scheduled("c#1"),
        done("c#1"),
    )
    assert found(*journal) == [(3, "START", 0), (9, "a, b", 1), (11, "c", 2)]


def test_what_failed_ends_its_round_when_it_was_resumed() -> None:
    resumed = facts.RunResumed(reopened=(("a#1", 2),))
    round_ = (scheduled("a#1"), scheduled("b#1"), failed("a#1"), done("b#1"))
    assert found(*round_) == []
    assert found(*round_, resumed, done("a#1")) == [(6, "a, b", 0)]


def test_waits_and_calls_inside_of_nodes_are_no_rounds() -> None:
    wait = facts.StepScheduled(step="signal:approve#1", name="signal:approve", kind="signal")
    inner = scheduled("a#1/fetch#1", parent="a#1")
    journal = (scheduled("a#1"), inner, done("a#1/fetch#1"), wait, done("signal:approve#1"), done("a#1"))
    assert found(*journal) == [(6, "a", 0)]


def test_a_new_beginning_leaves_what_was_open_behind() -> None:
    journal = (scheduled("a#1"), facts.RunContinued(), scheduled("START#1"), done("START#1"))
    assert found(*journal) == [(4, "START", 0)]


@pytest.mark.parametrize(
    ("interval", "rounds"), [(0, []), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (9, [0])], ids=str
)
def test_the_interval_says_which_count(interval: int, rounds: list[int]) -> None:
    at = State.__new__  # any value: the instant plays no part
    made = [Checkpoint(position=n, nodes=("a",), round=n, at=at) for n in range(5)]  # type: ignore[arg-type]
    assert [each.round for each in made if Checkpointing(interval=interval).lists(each)] == rounds


# --- stores


def test_the_memory_store() -> None:
    store = MemoryCheckpointStore()
    first, second = State({"n": 1}, run_id="r"), State({"n": 2}, run_id="r")
    store.save(first)
    store.save(second)
    store.save(State(run_id="s"))
    assert store.load("r") is second
    assert store.list() == ("r", "s")
    store.delete("r")
    store.delete("r")
    assert store.list() == ("s",)
    with pytest.raises(RunNotFound, match="no checkpoint of run 'r'"):
        store.load("r")


def test_stores_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.core.checkpoints._stores", {"memory": MemoryCheckpointStore()})
    assert isinstance(get_checkpoint_store("memory"), MemoryCheckpointStore)
    mine = MemoryCheckpointStore()
    register_checkpoint_store("mine", mine)
    assert get_checkpoint_store("mine") is mine
    with pytest.raises(DefinitionError, match="unknown checkpoint store: elsewhere") as caught:
        get_checkpoint_store("elsewhere")
    assert "memory, mine" in caught.value.fix


def test_what_is_no_store_is_refused() -> None:
    bad: Any = {}
    with pytest.raises(DefinitionError, match="not a checkpoint store"):
        register_checkpoint_store("bad", bad)
    with pytest.raises(DefinitionError, match="not a checkpoint store"):
        StateGraph("g", checkpoint_store=bad)
    config = GraphConfig(checkpoint=CheckpointConfig(store="elsewhere"))
    with pytest.raises(DefinitionError, match="unknown checkpoint store: elsewhere"):
        StateGraph("g", config=config)


def test_a_graph_says_how_it_is_checkpointed() -> None:
    mine = MemoryCheckpointStore()
    config = GraphConfig(checkpoint=CheckpointConfig(store="memory", interval=3, preserve=False))
    assert checkpointing_of(object()) == Checkpointing(None, 1, preserve=True)
    assert checkpointing_of(GraphWorkflow("g", nothing, config=config)) == Checkpointing(
        "memory", 3, preserve=False
    )
    graph = sequence("g", config=config, a=nothing)
    assert checkpointing_of(from_graph(graph).renamed("other")) == graph.checkpointing
    given = StateGraph("g", config=config, checkpoint_store=mine).checkpointing
    assert given == Checkpointing(mine, 3, preserve=False)
    assert given.target() is mine
    assert given._replace(interval=0).target() is None
