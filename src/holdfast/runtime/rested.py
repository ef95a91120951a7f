"""What is known of the runs that were laid down here last: one that is claimed again need not be read anew."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from holdfast.core.program import Workflow
from holdfast.model.ids import RunId
from holdfast.model.run import RunRow
from holdfast.runtime.held import Held
from holdfast.runtime.loading import Loaded

MOST_RUNS: Final = 500
"""That are kept, at some 15 KB each; beyond, who has rested longest is forgotten. A waiting run shall cost a row."""

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of facts, folds and large values of all runs that are kept."""


class _Kept(NamedTuple):
    run: Held
    workflow: Workflow
    size: int


class Rested:
    """Keeps what a load would give again. It costs memory alone, and is taken only if nobody has committed since."""

    def __init__(self) -> None:
        """Begin with nothing kept."""
        self._kept: Final[OrderedDict[RunId, _Kept]] = OrderedDict()
        self._bytes = 0

    def keep(self, run: Held) -> None:
        """Keep a run whose last commit laid it down.

        One with secrets is read anew: an error's text is cleaned of them only after it was folded.
        """
        self._pop(run.id)
        if run.workflow is None or run.ledger.secrets or run.secrets:
            return
        size = run.size_since_fold + run.fold_size + sum(map(len, run.blobs.values()))
        self._kept[run.id] = _Kept(run, run.workflow, size)
        self._bytes += size
        while self._bytes > MOST_BYTES or len(self._kept) > MOST_RUNS:
            self._pop(next(iter(self._kept)))

    def take(self, row: RunRow, workflow: Workflow) -> Loaded | None:
        """Return what a load of a claimed run would give, and forget it; None if that is not known here."""
        kept = self._pop(row.id)
        if kept is None or kept.workflow is not workflow:
            return None
        run = kept.run
        if run.last_commit != row.last_commit or run.position != row.position:
            return None
        since = run.facts_since_fold, run.size_since_fold, run.fold_size
        return Loaded(row, run.program, run.progress, run.blobs, *since)

    def _pop(self, run: RunId) -> _Kept | None:
        kept = self._kept.pop(run, None)
        if kept is not None:
            self._bytes -= kept.size
        return kept
