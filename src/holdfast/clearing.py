"""Running parts of a run anew: in place where it failed, or as a new run that keeps the rest."""

from __future__ import annotations

from typing import Any, Final

from holdfast.burying import Burying
from holdfast.core.supervision import Supervision
from holdfast.errors import InvalidStatus, RequestError
from holdfast.model import facts
from holdfast.model.checks import FLAG, POSITION, TEXT, argument
from holdfast.model.ids import RunId
from holdfast.model.run import RESUMABLE, RunRow
from holdfast.run import Run

_ITEM: Final = POSITION.or_none()


class Clearing(Burying):
    """What an engine offers for tasks that shall run once more."""

    async def rerun(self, id: RunId, from_task: str, *, item: int | None = None) -> Run:
        """Start a new run that keeps what this one did before a task, and runs that and all that comes after it anew.

        With `item` just that item of the map `from_task` is run anew, counted from 0. What failed or never ran is run,
        too. The run itself stays as it is, and may have ended in whatever way. It goes by today's code. Raises
        RunNotFound, WorkflowNotFound, PayloadRejected for a task or item that there is not, RequestError for a run of
        no DAG.
        """
        row, program, anew = await self._anew(id, from_task, item, downstream=True)
        return await self._branch(row, row.position, program.cleared(anew), {})

    async def clear(
        self,
        id: RunId,
        task: str,
        downstream: bool = True,  # noqa: FBT001, FBT002 - the public contract
        *,
        item: int | None = None,
    ) -> Run:
        """Go on with a paused, failed or cancelled run, with a task and what comes after it (`downstream`) run anew.

        What failed or never ran is run, too; all else that finished stays. Raises what `rerun` raises, and
        InvalidStatus for a run that goes on or is completed, or when the task is under way.
        """
        row, _, anew = await self._anew(id, task, item, downstream=argument("downstream", downstream, FLAG))
        if row.status not in RESUMABLE:
            raise InvalidStatus(
                f"run {id!r} is {row.status.value}",
                fix="Pause it first, or start a new one that keeps the rest: engine.rerun(id, task).",
            )
        fact = facts.RunResumed(key=f"resume:{row.position}", cleared=anew)
        await self._deliver(id, fact, fact.key, RESUMABLE, reopens=True)
        return await self.get(id)

    async def _anew(
        self, id: RunId, task: str, item: int | None, *, downstream: bool
    ) -> tuple[RunRow, Any, tuple[tuple[str, int], ...]]:
        """Return the run, its program, and what of it begins anew."""
        argument("task", task, TEXT)
        argument("item", item, _ITEM)
        loaded = await self._load(id)
        program: Any = loaded.program
        progress: Any = loaded.progress
        if isinstance(program, Supervision):
            program, progress = program.pattern, progress.inner
        if not hasattr(program, "anew"):
            raise RequestError(
                f"{loaded.row.workflow} is no DAG", fix="Fork the run at a position: engine.fork(id, at=...)."
            )
        anew = program.anew(progress, task, item, downstream=downstream)
        names = {name for name, _ in anew}
        under_way = [step.name for step in progress.ledger.open.values() if step.name in names]
        if under_way and loaded.row.status in RESUMABLE:
            raise InvalidStatus(
                f"run {id!r}: task {under_way[0]!r} is under way", fix="Cancel the run, then clear the task."
            )
        return loaded.row, program, anew
