"""Looking back and branching off: what runs ask, how two of them differ, and new runs from any point of an old one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final

import msgspec

from holdfast.core.asked import open_questions
from holdfast.core.events import kind_of, reader
from holdfast.core.work import Blobs
from holdfast.errors import PayloadRejected, RunNotFound
from holdfast.model import facts
from holdfast.model.audit import Difference, Interrupt, RunDiff
from holdfast.model.checks import DATA, TEXT, argument, whole
from holdfast.model.ids import RunId
from holdfast.model.run import RunRow, RunStatus
from holdfast.model.secrets import Secrets
from holdfast.reading import Reading
from holdfast.run import Run
from holdfast.runtime.clock import Clock, new_id
from holdfast.runtime.loading import params_of
from holdfast.runtime.opening import opened
from holdfast.runtime.secrets import SecretMemory
from holdfast.store.rows import RunQuery

_AT: Final = whole(1, "a position of at least 1").or_none()
_PAGE: Final = 100
_UNENDED: Final = frozenset({RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED})


class Travelling(Reading):
    """What an engine offers beside running: interrupts, differences, forks."""

    _clock: Clock
    _secrets: SecretMemory

    async def interrupts(self, workflow: str | None = None, *, run: RunId | None = None) -> list[Interrupt]:
        """Return what runs ask and nobody has answered: of all runs, of one workflow, or of one run; oldest run first.

        Answer with `signal(interrupt.run_id, interrupt.name, value)`. Costs a fold of each run that waits.
        """
        argument("workflow", workflow, TEXT.or_none())
        if run is not None:
            return await self._asked(await self._row(run))
        self._open  # noqa: B018 - raises when the engine is closed
        query = RunQuery(workflow=workflow, status=_UNENDED, waits_for="signal", ascending=True, limit=_PAGE)
        found: list[Interrupt] = []
        while rows := await self._store.runs(query):
            for row in rows:
                found += await self._asked(row)
            query = msgspec.structs.replace(query, after=(rows[-1].created_at, rows[-1].id))
        return found

    async def _asked(self, row: RunRow) -> list[Interrupt]:
        rows = await self._all(row)
        read = reader(await self._store.blobs(row.id))
        return open_questions(row.id, row.workflow, rows, read)

    async def fork(self, id: RunId, at: int | None = None, changes: Mapping[str, Any] | None = None) -> Run:
        """Start a new run that begins as this one did up to position `at` (None: all), and goes on from there.

        `changes` are set in the state as it is there. What had finished is not run again; what had not counts as never
        started. A position in the midst of what one decision recorded stands for that before the decision, which the
        fork takes anew. The run that is forked stays as it is. Raises RunNotFound, PayloadRejected (beyond the end,
        changes that do not fit), WorkflowNotFound when there are changes and the workflow is not registered here.
        """
        argument("at", at, _AT)
        argument("changes", changes, DATA.or_none())
        row = await self._row(id)
        end = row.position if at is None else at
        if end > row.position:
            raise PayloadRejected(
                f"run {id!r} has no position {end}", field="at", fix=f"Give 1 to {row.position}."
            )
        return await self._branch(row, end, *(await self._changes(row, changes)))

    async def _branch(self, row: RunRow, end: int, data: msgspec.Raw, fresh: Mapping[str, bytes]) -> Run:
        """Start a run that begins as this one did up to position `end`, with encoded changes and their large values."""
        started, *after = _before_decision(await self._prefix(row, row.position), end)
        if not isinstance(started, facts.RunStarted):
            raise RunNotFound(f"run {row.id!r} has no beginning in its journal")
        now = self._clock.now()
        # Its end is nobody's step. What is a part of a workflow stays in its family, which says so.
        kin = started.parent if started.part else ""
        begun = msgspec.structs.replace(started, deadline=0, not_before=0, parent=kin, parent_step="")
        forked = facts.RunForked(at=now, source=row.id, at_position=end, data=data)
        blobs = {**await self._store.blobs(row.id), **fresh}
        fork: RunRow | None = None
        while fork is None:  # a new id is taken by nobody but an earlier try
            fork = await self._open.fork(new_id(self._clock), begun, after, forked, blobs)
        return self._run(fork)

    async def _prefix(self, row: RunRow, end: int) -> Sequence[facts.Fact]:
        rows = await self._all(row)
        return [fact for each in rows for fact in facts.Journal.decode(each.facts)][:end]

    async def _changes(
        self, row: RunRow, changes: Mapping[str, Any] | None
    ) -> tuple[msgspec.Raw, dict[str, bytes]]:
        """Return changes as the workflow keeps them, and their large values."""
        if not changes:
            return facts.NOTHING, {}
        blobs = Blobs()
        program = opened(await self._workflow_of(row), self.runtime, params_of(row), blobs)
        data = program.changes(changes)
        Secrets(self._secrets.of(row.id)).refuse({"changes": data})
        return data, blobs.fresh

    async def diff(self, id: RunId, other: RunId) -> RunDiff:
        """Return how two runs differ: how long they went the same way, their ways from there, their states' keys."""
        rows = [await self._row(id), await self._row(other)]
        left, right = [await self._prefix(row, row.position) for row in rows]
        pairs = ((_said(one), _said(two)) for one, two in zip(left, right, strict=False))
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        known = all(self.registry.find(row.workflow) is not None for row in rows)
        states = [await self.state(row.id) for row in rows] if known else [{}, {}]
        return RunDiff(
            left=id,
            right=other,
            common=same,
            left_path=_path(left[same:]),
            right_path=_path(right[same:]),
            state=tuple(_differences(*states)),
            states_known=known,
        )


def _before_decision(journal: Sequence[facts.Fact], end: int) -> Sequence[facts.Fact]:
    """Return a journal up to a position; without the last decision when only a part of it is recorded there.

    The rest of it, such as the other branches of a round, would be missing for good: what is recorded is not decided
    again.
    """
    if end < len(journal) and _is_decided(journal[end]):
        while _is_decided(journal[end - 1]):
            end -= 1
    return journal[:end]


def _is_decided(fact: facts.Fact) -> bool:
    """Tell whether a program decided this, after the facts before it."""
    if isinstance(fact, facts.StepScheduled):
        return not fact.parent
    return isinstance(fact, facts.DecisionMade | facts.EventPublished | facts.RunCompleted | facts.RunFailed)


def _differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Difference]:
    for key in sorted({*left, *right}):
        one, two = left.get(key, _ABSENT), right.get(key, _ABSENT)
        if one is _ABSENT or two is _ABSENT or one != two:
            yield Difference(
                key=key,
                left=left.get(key),
                right=right.get(key),
                in_left=one is not _ABSENT,
                in_right=two is not _ABSENT,
            )


_ABSENT: Final = object()

_TIMES: Final = dict.fromkeys(("at", "started", "due", "deadline", "not_before"), 0)


def _said(fact: facts.Fact) -> facts.Fact:
    """Return what a fact says, without the clock, and without who knew the definition when."""
    changes: dict[str, Any] = {name: zero for name, zero in _TIMES.items() if hasattr(fact, name)}
    if isinstance(fact, facts.RunStarted | facts.StepScheduled):
        changes["hash"] = ""
    return msgspec.structs.replace(fact, **changes)


def _path(journal: Sequence[facts.Fact]) -> tuple[str, ...]:
    """Return the nodes that were scheduled, in order."""
    scheduled = (fact for fact in journal if isinstance(fact, facts.StepScheduled))
    return tuple(fact.name for fact in scheduled if kind_of(fact.step) == "stage")
