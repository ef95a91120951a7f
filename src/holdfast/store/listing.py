"""Lists of runs: a query as conditions of SQL, along the indexes that every store has.

Each status is read along its own index, so that the rows come sorted and no more than `limit` of each are touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from holdfast.model.run import RunStatus
from holdfast.store.rows import RunQuery


class Chosen(NamedTuple):
    """The conditions with a `?` per value, the values, and the columns to sort by: those of the index that is walked.

    The texts are constants; only values come from the query.
    """

    where: str
    values: Sequence[Any]
    at: str
    id: str


def statuses(query: RunQuery) -> Sequence[RunStatus | None]:
    """Return the statuses to read one by one. A workflow alone is indexed by status, too, hence all of them."""
    if query.dead:
        return (RunStatus.FAILED, RunStatus.PAUSED)
    if query.status:
        return sorted(query.status)
    return list(RunStatus) if query.workflow is not None and not query.tags else [None]


def choose(query: RunQuery, status: RunStatus | None, tags: str, *, paged: bool) -> Chosen:
    """Return what to add to a SELECT from `workflow_runs AS r`. `tags` names the table of tags."""
    join, at, id_ = "", "r.created_at", "r.id"
    clauses: list[str] = []
    values: list[Any] = []

    def add(clause: str, *given: Any) -> None:
        clauses.append(clause)
        values.extend(given)

    if query.tags:
        join, at, id_ = f" JOIN {tags} AS first ON first.run = r.id", "first.created_at", "first.run"
        add("first.tag = ?", query.tags[0])
    for tag in query.tags[1:]:
        has_tag = f"SELECT 1 FROM {tags} WHERE tag = ? AND created_at = r.created_at AND run = r.id"  # noqa: S608 - ours
        add(f"EXISTS ({has_tag})", tag)
    conditions = {
        "r.workflow = ?": query.workflow,
        "r.status = ?": None if status is None else status.value,
        "r.parent = ? AND r.parent <> ''": query.parent,
        f"{at} >= ?": query.since,
        f"{at} < ?": query.until,
    }
    for clause, value in conditions.items():
        if value is not None:
            add(clause, value)
    for text, given in _chosen_few(query, status, tags):
        add(text, *given)
    if paged and query.after is not None:
        add(f"({at}, {id_}) {'>' if query.ascending else '<'} (?, ?)", *query.after)
    return Chosen(f"{join} WHERE {' AND '.join(clauses)}" if clauses else "", values, at, id_)


def _chosen_few(
    query: RunQuery, status: RunStatus | None, tags: str
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the conditions that no index serves; with the others few rows are left for them."""
    if query.run:
        yield "r.id = ?", (query.run,)
    if query.waits_for:
        yield "r.waiting_on LIKE ?", (f'%"{query.waits_for} %',)
    if query.dead:
        letters = tags.replace("run_tags", "dead_letters")
        put_away = f"SELECT 1 FROM {letters} AS d WHERE d.run = r.id AND d.position = r.position"  # noqa: S608 - ours
        yield f"NOT EXISTS ({put_away})", ()
        if status is RunStatus.PAUSED:
            yield "r.error LIKE ?", ('{"code":"poison"%',)
        else:  # a child's failure is its parent's
            yield "r.parent = '' AND r.error NOT LIKE ?", ('{"code":"discarded"%',)
    if query.code:
        yield "r.error LIKE ?", (f'{{"code":"{query.code}"%',)
    for name in sorted(query.besides):
        yield "r.workflow <> ?", (name,)
    if query.ended_before is not None:
        yield "r.parent = '' AND r.completed_at < ?", (query.ended_before,)
