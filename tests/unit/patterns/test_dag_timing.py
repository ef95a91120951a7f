"""Critical paths, and runs over time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast import DAGWorkflow, StepStatus, Task
from holdfast.core.picture.gantt import gantt
from holdfast.model.audit import Attempt, Stage

BEGIN = datetime(2026, 11, 20, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def tried(start: float, end: float | None, status: StepStatus = StepStatus.COMPLETED) -> Attempt:
    return Attempt(
        number=1,
        status=status,
        error=None,
        reason="",
        started_at=at(start),
        completed_at=None if end is None else at(end),
        duration=None if end is None else end - start,
        worker="w",
    )


def stage(name: str, *attempts: Attempt, iteration: int = 1) -> Stage:
    last = attempts[-1]
    return Stage(
        name=name,
        iteration=iteration,
        attempt=len(attempts),
        status=last.status,
        input=None,
        output=None,
        started_at=last.started_at,
        completed_at=last.completed_at,
        duration=last.duration,
        error=None,
        worker="w",
        attempts=attempts,
        position=1,
    )


def diamond() -> DAGWorkflow:
    tasks = [Task("a", list), Task("b", list, depends_on=["a"]), Task("c", list, depends_on=["a"])]
    return DAGWorkflow([*tasks, Task("d", list, depends_on=["b", "c"])])


def test_the_critical_path_is_the_longest_by_time() -> None:
    assert diamond().critical_path() == ["a", "b", "d"]
    assert diamond().critical_path({"a": 1, "b": 2, "c": 3, "d": 1}) == ["a", "c", "d"]


def test_what_waited_for_a_place_is_told() -> None:
    stages = [
        *(stage("a", tried(0, 1)), stage("b", tried(1, 3)), stage("c", tried(3, 6)), stage("d", tried(6, 7))),
        stage("other", tried(0, 99)),
    ]
    found = diamond().timing(stages)
    assert found is not None
    assert (found.seconds, found.critical_path, found.critical_seconds) == (7, ("a", "c", "d"), 5)
    assert (found.waits, found.saved) == ((("c", 2.0),), 2)
    assert str(found) == (
        "took 7.0 s; its critical path took 5.0 s: a -> c -> d\n"
        "more parallelism would save up to 2.0 s; these waited for a place: c 2.0 s"
    )


def test_the_items_of_a_map_count_as_if_they_ran_at_once() -> None:
    dag = DAGWorkflow([Task("each", lambda n: n, map_over=[1, 2])])
    found = dag.timing([stage("each", tried(0, 2)), stage("each", tried(2, 5), iteration=2)])
    assert found is not None
    assert (found.critical_seconds, found.waits) == (3, (("each", 2.0),))
    assert dag.timing([]) is None


def test_a_run_over_time() -> None:
    failed = tried(0, 2, StepStatus.FAILED)
    rows = gantt(
        [
            stage("a", failed, tried(4, 5)),
            stage("b", tried(5, 8)),
            stage("b", tried(6, None, StepStatus.RUNNING)),
        ],
        at(10),
        width=20,
    )
    assert ["".join(text for text, _ in row) for row in rows] == [
        "a     ▚▚▚▚····██            5.0 s",
        "b ×2            ██▒▒▒▒▒▒▒▒  5.0 s",  # noqa: RUF001 - the sign for "so many times"
        "      0             10.0 s",
    ]
    assert [tone for _, tone in rows[0]] == ["", "failed", "idle", "completed", "", ""]
    assert gantt([], at(0)) == []
