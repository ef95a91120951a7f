"""Dead letters of an engine: listed, inspected, redriven one or many, and put away."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any, Final

import msgspec

from holdfast.core.letters import DISCARDED, DeadLetter, history_of, is_dead, letter_of, redrives_of
from holdfast.core.limits import Bulkhead, RateLimit
from holdfast.core.policy import Policy
from holdfast.errors import BulkheadFull, InvalidStatus, RedriveActive
from holdfast.model import facts
from holdfast.model.checks import COUNT, LABEL, LIMIT, argument
from holdfast.model.ids import RunId, check_run_id, instant
from holdfast.model.run import RunRow, RunStatus
from holdfast.profiles import Profiling
from holdfast.run import Run
from holdfast.runtime.guards.gates import Gates
from holdfast.store.rows import RunQuery

MOST_REDRIVES: Final = 5
"""A letter that was redriven so often is left to a person by those who redrive many."""

_ONE: Final = Bulkhead(1, name="holdfast.redrive", max_wait=0)
_LIST: Final = "List them: `holdfast dead-letters`, or engine.dead_letters()."


class Burying(Profiling):
    """What can be done about runs that failed for good."""

    @abstractmethod
    async def resume(self, id: RunId) -> Run:
        """Go on with a run."""

    @abstractmethod
    async def _deliver(self, run: RunId, fact: facts.Fact, key: str, allowed: Any) -> None:
        """Put a fact into a run's inbox."""

    async def dead_letters(
        self, workflow: str | None = None, code: str | None = None, limit: int = 1000
    ) -> list[DeadLetter]:
        """Return up to `limit` runs that failed for good or killed their workers, those that began last first."""
        argument("workflow", workflow, LABEL.or_none())
        argument("code", code, LABEL.or_none())
        query = _query(workflow, code, argument("limit", limit, COUNT))
        self._open  # noqa: B018 - raises when the engine is closed
        return [letter_of(row) for row in await self._store.runs(query)]

    async def dead_letter(self, id: RunId) -> DeadLetter:
        """Return one with its history and the input of the step that failed. Raises RunNotFound, InvalidStatus."""
        row = await self._dead(id)
        journal = [
            (fact, each.worker)
            for each in await self._store.journal(id, limit=row.position + 1)
            for fact in facts.Journal.decode(each.facts)
        ]
        letter = letter_of(row)
        stages = [stage for stage in await self.stages(id, inputs=True) if stage.name == letter.stage]
        return msgspec.structs.replace(
            letter,
            redrives=redrives_of([fact for fact, _ in journal]),
            history=history_of(journal),
            input=stages[-1].input if stages else msgspec.json.decode(row.params),
        )

    async def redrive(self, id: RunId) -> Run:
        """Take a dead letter's run up again at the step that failed, with new tries. Twice at once is the same as once.

        Raises RunNotFound, and InvalidStatus for a run that is no dead letter.
        """
        await self._dead(id)
        return await self.resume(id)

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

        Those that die again meanwhile, and those redriven `most_redrives` times before, are left. Raises RedriveActive
        while somebody redrives many in whatever process.
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
                    if (run := await self._redriven(row.id, gates, pace)) is not None:
                        yield run
                query = msgspec.structs.replace(query, after=(rows[-1].created_at, rows[-1].id))
        finally:
            passage.close(None)

    async def _redriven(self, id: RunId, gates: Gates, pace: RateLimit) -> Run | None:
        await gates.enter(Policy(rate_limit=pace), "")
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


def _no_letter(row: RunRow) -> InvalidStatus:
    return InvalidStatus(f"run {row.id!r} is {row.status.value}; it is no dead letter", fix=_LIST)
