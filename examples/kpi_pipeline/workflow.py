"""The pipeline, and the saga around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast import END, START, RetryPolicy, Saga, State, StateGraph, StepContext

from . import scores

PROGRESS: Final = {
    "validate_data": 10,
    "collect_actuals": 30,
    "calculate_scores": 50,
    "aggregate_results": 70,
    "generate_rankings": 90,
    "notify_stakeholders": 100,
}
"""What is told before each step begins. That the run has completed is another thing."""

RETRY: Final = RetryPolicy(attempts=3, backoff=5.0, factor=2.0, jitter="none")
"""Three tries: the second after five seconds, the third after ten more."""


def pipeline(retry: RetryPolicy) -> StateGraph:
    """The six steps."""
    graph = StateGraph("kpi-pipeline")

    def add(work: Callable[[State, Any], Mapping[str, Any]]) -> None:
        def node(state: State, step: StepContext) -> Mapping[str, Any]:
            step.progress(PROGRESS[step.name], step.name.replace("_", " "))
            return work(state, step.runtime)

        graph.add_node(work.__name__, node, retry=retry)

    for work in (
        *(validate_data, collect_actuals, calculate_scores),
        *(aggregate_results, generate_rankings, notify_stakeholders),
    ):
        add(work)
    names = list(PROGRESS)
    return graph.add_sequence(names).add_edge(START, names[0]).add_edge(names[-1], END)


def validate_data(state: State, runtime: Any) -> Mapping[str, Any]:
    found = scores.problems(scores.read(runtime.actuals))
    if found:
        raise ValueError("; ".join(found))
    return {}


def collect_actuals(state: State, runtime: Any) -> Mapping[str, Any]:
    return {"actuals": scores.actuals(scores.read(runtime.actuals))}


def calculate_scores(state: State, runtime: Any) -> Mapping[str, Any]:
    return {"scores": scores.scored(state["actuals"])}


def aggregate_results(state: State, runtime: Any) -> Mapping[str, Any]:
    return {"points": scores.totals(state["scores"])}


def generate_rankings(state: State, runtime: Any) -> Mapping[str, Any]:
    return {"ranking": scores.ranking(state["points"])}


def notify_stakeholders(state: State, runtime: Any) -> Mapping[str, Any]:
    runtime.notes.append(f"{state['period']}: {state['ranking'][0]['line']} leads")
    return {"success": True}


def assessment(retry: RetryPolicy = RETRY) -> Saga:
    """The saga: lock the period, archive its scores, calculate new ones, publish them."""
    saga = Saga(
        "assess-period", description="Lock, archive, calculate, publish; undone in reverse when one fails"
    )
    saga.add_step("lock", forward=lock, compensate=unlock, retry=retry)
    saga.add_step("archive", forward=archive, compensate=restore, retry=retry)
    saga.add_step("calculate", forward=pipeline(retry), retry=retry)
    saga.add_step("publish", forward=publish, retry=retry)
    return saga


def lock(params: Mapping[str, Any], runtime: Any) -> None:
    runtime.archive.lock(params["period"])


def unlock(params: Mapping[str, Any], runtime: Any) -> None:
    runtime.archive.unlock(params["period"])


def archive(params: Mapping[str, Any], runtime: Any) -> Any:
    book = runtime.archive.read()
    old = book["archived"].get(params["period"], book["scores"])
    runtime.archive.change(scores={}, archived={**book["archived"], params["period"]: old})
    return old


def restore(params: Mapping[str, Any], output: Any, runtime: Any) -> None:
    book = runtime.archive.read()
    if output is not None:  # else nobody knows whether it was archived, and the scores are where they were
        book["archived"].pop(params["period"], None)
        runtime.archive.change(scores=output, archived=book["archived"])


def publish(params: Mapping[str, Any], results: Mapping[str, Any], runtime: Any) -> str:
    if runtime.portal():
        raise ConnectionError("the board's portal is closed")
    ranking = results["calculate"]["ranking"]
    runtime.archive.change(scores={"ranking": ranking}, published=params["period"], locked_by=None)
    return f"{len(ranking)} lines"
