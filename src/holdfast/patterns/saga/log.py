"""The log of a saga: what is known of a run, as a stack of groups of steps that is undone from its top.

A group is pushed when its first step is scheduled, and popped when everything in it that is due is undone. A popped
group stays in `groups`, since a compensation that failed may be tried again much later, and shall see what its step
saw; `top` is the index of the group that would be undone next, and each group knows the one `below` it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from holdfast.core.events import resolved
from holdfast.core.ledger import Ledger
from holdfast.model import facts
from holdfast.model.ids import COMPENSATION, StepId


class Entry(msgspec.Struct, omit_defaults=True):
    """A step that was scheduled. `undo` is where its compensation stands: "", open, done, failed or skipped.

    `registered` tells that a compensation was registered with it, `doubt` that some attempt of it may have taken effect
    although nobody knows, `index` which item of its step it is.
    """

    step: StepId
    name: str
    group: int
    index: int = 0
    state: str = "open"
    undo: str = ""
    registered: bool = False
    doubt: bool = False
    item: msgspec.Raw = facts.NOTHING
    output: msgspec.Raw = facts.NOTHING

    @property
    def due(self) -> bool:
        """Tell whether its compensation is still to be asked for."""
        return self.registered and not self.undo and self.state in ("done", "unknown")


class Group(msgspec.Struct, omit_defaults=True):
    """Steps that were wanted together: `number` says which group of the definition they are.

    `lists` are the names of those that ran once for each item, `open` counts steps that have not ended, `due`
    compensations that are wanted and have not ended.
    """

    number: int
    below: int
    steps: list[StepId] = []
    lists: list[str] = []
    open: int = 0
    due: int = 0


class SagaProgress(msgspec.Struct):
    """What is known of a run after some facts.

    `failed` is the name of the first step of the group in work that failed, `error` why; `undecided` tells that it was
    the pivot, and that nobody knows whether it took effect. `undoing` tells that the saga goes back, for `reason`, or
    since it was asked to end by `request`, as far as the group number `floor` if there is one. `tries` counts for each
    savepoint how often the saga began there again. `undone` are the steps that were compensated, `broken` the
    compensations that failed for good, `inherited` those within child sagas. `misfit` says why today's code cannot go
    on.
    """

    ledger: Ledger = msgspec.field(default_factory=Ledger)
    groups: list[Group] = []
    entries: dict[StepId, Entry] = {}
    top: int = -1
    counts: dict[str, int] = {}
    failed: str = ""
    error: facts.ErrorInfo | None = None
    undecided: bool = False
    request: facts.CancelRequested | None = None
    undoing: bool = False
    reason: str = ""
    floor: int | None = None
    tries: dict[int, int] = {}
    undone: list[str] = []
    broken: dict[StepId, facts.ErrorInfo] = {}
    inherited: list[facts.ErrorInfo] = []
    misfit: str = ""

    @property
    def group(self) -> Group | None:
        """The group on top."""
        return self.groups[self.top] if self.top >= 0 else None

    def stack(self, top: int) -> Iterator[Group]:
        """Yield the groups from one down to the first."""
        while top >= 0:
            yield self.groups[top]
            top = self.groups[top].below

    def outputs(self, top: int, blobs: Mapping[str, bytes]) -> dict[str, msgspec.Raw]:
        """Return what the steps up to a group returned, encoded, by name, in the order of the log."""
        found: dict[str, msgspec.Raw] = {}
        for group in reversed([*self.stack(top)]):
            lists: dict[str, list[bytes]] = {name: [] for name in group.lists}
            for step in group.steps:
                entry = self.entries[step]
                if entry.name in lists:
                    lists[entry.name].append(bytes(resolved(entry.output, blobs)))
                elif entry.state == "done":
                    found[entry.name] = entry.output
            found |= {name: msgspec.Raw(b"[%b]" % b",".join(items)) for name, items in lists.items()}
        return found

    def next_due(self) -> Group | None:
        """Return the uppermost group that has something to undo."""
        return next((group for group in self.stack(self.top) if group.due), None)

    def compensated_by(self, compensation: StepId) -> Entry:
        """Return the step that a compensation takes back."""
        return self.entries[compensation.removeprefix(COMPENSATION)]
