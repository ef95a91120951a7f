"""Dead letters of an engine: listed, inspected, redriven one or many, and put away."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import timedelta
from typing import Any, Final

import msgspec

from holdfast.core.ledger import Ledger
from holdfast.core.letters import DISCARDED, DeadLetter, history_of, is_dead, letter_of, redrives_of
from holdfast.core.limits import Bulkhead, RateLimit
from holdfast.core.policy import Policy
from holdfast.errors import BulkheadFull, InvalidStatus, PayloadRejected, RedriveActive
from holdfast.model import facts
from holdfast.model.checks import COUNT, LABEL, LIMIT, TEXTS, Kind, argument
from holdfast.model.ids import (
    COMPENSATION,
    Instant,
    RunId,
    StepId,
    check_run_id,
    instant,
    is_compensation,
    split_step,
)
from holdfast.model.run import RESUMABLE, RunRow, RunStatus
from holdfast.profiles import Profiling
from holdfast.reading import MOST, cursor_after, read_cursor
from holdfast.run import Run
from holdfast.runtime.guards.rows import SharedRow
from holdfast.store.rows import RunQuery

MOST_REDRIVES: Final = 5
"""A letter that was redriven so often is left to a person by those who redrive many."""

_ONE: Final = Bulkhead(1, name="holdfast.redrive", max_wait=1)
"""Waits a moment: the place of one that has ended is given back soon after."""
_REDRIVING: Final = "redriving"
_LIMIT: Final = Kind(lambda given: COUNT.holds(given) and given <= MOST, f"a whole number from 1 to {MOST}")
_LIST: Final = "List them: `holdfast dead-letters`, or engine.dead_letters()."


class Letters(list[DeadLetter]):
    """A page of dead letters: a list, with the cursor `next` (None: that was all) and the `total`.

    `async for` walks on over the pages that follow.
    """

    def __init__(
        self,
        items: Iterable[DeadLetter],
        following: str | None,
        total: int,
        more: Callable[[str], Awaitable[Letters]],
    ) -> None:
        """`more(cursor)` gives the page after this one."""
        super().__init__(items)
        self.next: Final = following
        self.total: Final = total
        self._more = more

    @property
    def items(self) -> list[DeadLetter]:
        """The letters of this page."""
        return list(self)

    async def __aiter__(self) -> AsyncIterator[DeadLetter]:
        """Yield this page's letters and those of all that follow."""
        page: Letters | None = self
        while page is not None:
            for letter in page:
                yield letter
            page = await page._more(page.next) if page.next is not None else None  # noqa: SLF001 - its own kind


class _Redriving(msgspec.Struct, frozen=True):
    """When somebody last told those who redrive many to stop."""

    stopped: Instant = 0


class Burying(Profiling):
    """What can be done about runs that failed for good."""

    @abstractmethod
    async def resume(self, id: RunId) -> Run:
        """Go on with a run."""

    @abstractmethod
    async def _deliver(
        self, run: RunId, fact: facts.Fact, key: str, allowed: Any, *, reopens: bool = False
    ) -> None:
        """Put a fact into a run's inbox."""

    async def dead_letters(
        self,
        workflow: str | None = None,
        code: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Letters:
        """Return runs that failed for good or killed their workers, those that began last first, a page at a time.

        `after` is the `next` of the page before.
        """
        argument("workflow", workflow, LABEL.or_none())
        argument("code", code, LABEL.or_none())
        query = _query(workflow, code, argument("limit", limit, _LIMIT))
        query = msgspec.structs.replace(query, after=read_cursor(after))
        self._open  # noqa: B018 - raises when the engine is closed
        rows = await self._store.runs(msgspec.structs.replace(query, limit=limit + 1))
        total = await self._store.count(query)

        async def more(cursor: str) -> Letters:
            return await self.dead_letters(workflow, code, limit, cursor)

        return Letters(map(letter_of, rows[:limit]), cursor_after(rows, limit), total, more)

    async def dead_letter(self, id: RunId) -> DeadLetter:
        """Return one with its history and the input of the step that failed. Raises RunNotFound, InvalidStatus."""
        row = await self._dead(id)
        journal = [
            (fact, each.worker)
            for each in await self._store.journal(id, limit=row.position + 1)
            for fact in facts.Journal.decode(each.facts)
        ]
        letter = letter_of(row)
        known = self.registry.find(row.workflow) is not None  # else only its own code could tell the state
        stages = [stage for stage in await self.stages(id, inputs=known) if stage.name == letter.stage]
        return msgspec.structs.replace(
            letter,
            redrives=redrives_of([fact for fact, _ in journal]),
            history=history_of(journal),
            input=stages[-1].input if stages else msgspec.json.decode(row.params),
        )

    async def redrive(self, id: RunId, *, done: Sequence[str] = (), skip: Sequence[str] = ()) -> Run:
        """Take a dead letter's run up again at the step that failed, with new tries. Twice at once is the same as once.

        Of a saga whose compensations failed these are tried again, and what was left is undone; but for those of the
        steps that somebody has undone by hand (`done`), or that shall stay as they are (`skip`), named as in the saga.
        Raises RunNotFound, InvalidStatus for a run that is no dead letter, PayloadRejected for a step whose
        compensation has not failed.
        """
        argument("done", done, TEXTS)
        argument("skip", skip, TEXTS)
        if not done and not skip:
            await self._dead(id)
            return await self.resume(id)
        row = await self._row(check_run_id(id))
        if row.status is not RunStatus.FAILED:
            raise _no_letter(row)
        settled = await self._settled(row, {"done": done, "skipped": skip})
        fact = facts.RunResumed(key=f"resume:{row.position}", settled=settled)
        await self._deliver(id, fact, fact.key, RESUMABLE, reopens=True)
        return await self.get(id)

    async def _settled(
        self, row: RunRow, given: Mapping[str, Sequence[str]]
    ) -> tuple[tuple[StepId, str], ...]:
        """Return the compensations that failed, of the given steps, with what is said of them."""
        ledger = Ledger()
        for each in await self._store.journal(row.id, limit=row.position + 1):
            for fact in facts.Journal.decode(each.facts):
                ledger.absorb(fact)
        failed = [step for step in ledger.unresolved if is_compensation(step)]
        found: dict[StepId, str] = {}
        for how, names in given.items():
            for name in names:
                whole = COMPENSATION + name.removeprefix(COMPENSATION)
                steps = [step for step in failed if whole in (step, split_step(step)[0])]
                if not steps or not found.keys().isdisjoint(steps):
                    known = ", ".join(step.removeprefix(COMPENSATION) for step in failed) or "none"
                    within = [each.run for each in _failed_in_children(row) if each.name == whole]
                    raise PayloadRejected(
                        f"no compensation of step {name!r} has failed, or it is named twice",
                        field="skip" if how == "skipped" else how,
                        fix=f"It has in run {within[0]}: redrive that one so, then this one."
                        if within
                        else f"Those of these steps have: {known}.",
                    )
                found |= dict.fromkeys(steps, how)
        return tuple(found.items())

    async def redrive_many(
        self,
        workflow: str | None = None,
        code: str | None = None,
        *,
        rate: int = 10,
        per: float | timedelta = 1.0,
        most_redrives: int = MOST_REDRIVES,
    ) -> AsyncGenerator[Run, None]:
        """Redrive the letters that are there now, at most `rate` in each time `per`; yields each run. Leave it to stop.

        Those that die again meanwhile, and those redriven `most_redrives` times before, are left. `stop_redriving` in
        whatever process ends it. Raises RedriveActive while somebody redrives many in whatever process.
        """
        argument("per", per, LIMIT)
        argument("most_redrives", most_redrives, COUNT)
        pace = RateLimit(argument("rate", rate, COUNT), per, burst=1)
        gates, begun = self._open.gates, self._store.now()
        try:
            passage = await gates.enter(Policy(bulkhead=_ONE), "")
        except BulkheadFull:
            raise RedriveActive from None
        try:
            query = msgspec.structs.replace(_query(workflow, code, 100), ascending=True)
            while rows := await self._store.runs(query):
                for row in rows:
                    if instant(letter_of(row).dead_at) > begun or not await self._may(row, most_redrives):
                        continue
                    await gates.enter(Policy(rate_limit=pace), "")
                    if (await self._redriving()).stopped > begun:
                        return
                    if (run := await self._redriven(row.id)) is not None:
                        yield run
                query = msgspec.structs.replace(query, after=(rows[-1].created_at, rows[-1].id))
        finally:
            passage.close(None)

    async def stop_redriving(self) -> None:
        """End the `redrive_many` that is under way in whatever process, if one is; what it has not reached is left."""
        self._open  # noqa: B018
        row = SharedRow(self._store, _REDRIVING, _Redriving(), self._store.now)
        await row.change(lambda before, now: (_Redriving(max(now, before.stopped + 1)), None))

    async def _redriving(self) -> _Redriving:
        row = await self._store.limit(_REDRIVING)
        return _Redriving() if row is None else msgspec.json.decode(row.body, type=_Redriving)

    async def _redriven(self, id: RunId) -> Run | None:
        try:
            return await self.redrive(id)
        except InvalidStatus:  # somebody else was faster
            return None

    async def _may(self, row: RunRow, most: int) -> bool:
        journal = await self._store.journal(row.id, limit=row.position + 1)
        return redrives_of([f for each in journal for f in facts.Journal.decode(each.facts)]) < most

    async def discard(self, id: RunId) -> Run:
        """Put a dead letter away; its run is kept as failed until it is deleted, and can still be resumed.

        A run that is paused because it killed its workers fails with the code "discarded". Idempotent. Raises
        RunNotFound, and InvalidStatus for a run that is no dead letter.
        """
        row = await self._row(check_run_id(id))
        if not is_dead(row):
            raise _no_letter(row)
        if row.status is RunStatus.FAILED:
            await self._store.discard(id, row.position)
        else:
            fact = facts.CancelRequested(
                reason="its dead letter was discarded", code=DISCARDED, key=f"discard:{row.position}"
            )
            await self._deliver(id, fact, fact.key, frozenset({RunStatus.PAUSED}))
        return await self.get(id)

    async def _dead(self, id: RunId) -> RunRow:
        row = await self._row(check_run_id(id))
        found = await self._store.runs(RunQuery(run=id, dead=True, limit=1)) if is_dead(row) else ()
        if not found:
            raise _no_letter(row)
        return found[0]


def _query(workflow: str | None, code: str | None, limit: int) -> RunQuery:
    return RunQuery(workflow=workflow, code=code or "", dead=True, limit=limit)


def _failed_in_children(row: RunRow) -> Sequence[facts.ErrorInfo]:
    return [each for each in row.error.failed_compensations if each.run] if row.error is not None else []


def _no_letter(row: RunRow) -> InvalidStatus:
    return InvalidStatus(f"run {row.id!r} is {row.status.value}; it is no dead letter", fix=_LIST)
