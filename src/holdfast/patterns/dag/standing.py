"""How the tasks of a DAG stand, and what each adds to the tallies of those after it."""

from __future__ import annotations

from enum import Enum
from typing import Final

from holdfast.patterns.dag.rules import Verdict


class Status(Enum):
    """How a task stands. The values are those of stored folds."""

    WAITING = 0
    READY = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    SKIPPED = 5
    BLOCKED = 6


WAITING, READY, RUNNING = Status.WAITING, Status.READY, Status.RUNNING
SUCCEEDED, FAILED, SKIPPED, BLOCKED = Status.SUCCEEDED, Status.FAILED, Status.SKIPPED, Status.BLOCKED
UNENDED: Final = frozenset({WAITING, READY, RUNNING})

SHARES: Final = {
    WAITING: (0, 0, 0, 0, 1),
    READY: (0, 0, 0, 0, 1),
    RUNNING: (0, 0, 0, 0, 1),
    SUCCEEDED: (1, 0, 0, 0, 0),
    FAILED: (0, 1, 0, 0, 0),
    SKIPPED: (0, 0, 1, 0, 0),
    BLOCKED: (0, 0, 0, 1, 0),
}
"""What a task adds to the tallies of those after it: succeeded, failed, skipped, blocked, waiting."""

OF_VERDICT: Final = {Verdict.SKIP: SKIPPED, Verdict.BLOCK: BLOCKED}
OF_EDGE: Final = {verdict.value: status for verdict, status in OF_VERDICT.items()}

Share = tuple[int, int, int, int, int]
