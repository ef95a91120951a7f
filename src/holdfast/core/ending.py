"""The program of a run that was asked to end and that its own code cannot drive: nothing but the end is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from holdfast.core.ledger import Ledger, OpenStep
from holdfast.errors import NondeterminismError
from holdfast.model import facts
from holdfast.model.commands import Command
from holdfast.model.ids import COMPENSATION, StepId, compensation_of, is_compensation


class Ended:
    """What is known of the run; `due` are steps whose compensation is registered and was not run.

    `past` are those that began at the point of no return, or behind it, and have not failed.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.due: dict[StepId, None] = {}
        self.past: set[StepId] = set()

    @property
    def needs_code(self) -> bool:
        """Tell whether only its own code can bring it to an end that leaves nothing half done."""
        return bool(self.due or self.past)


class Ending:
    """Wants nothing, so that the cancel that a run has recorded, or is about to, brings it to its end.

    One that has something to take back needs its code for that; only when a person discards it, it ends without.
    """

    checkpoints = False
    problem = None
    hash = ""

    def start(self) -> Ended:
        """Return the progress before any fact."""
        return Ended()

    def evolve(self, progress: Ended, fact: facts.Fact) -> Ended:
        """Absorb one fact. The run goes on by the definition that it went on by: this is none."""
        ledger = progress.ledger
        ledger.absorb(fact)
        self.hash = ledger.hash
        if isinstance(fact, facts.StepScheduled):
            # So a saga registers a compensation.
            if f'"compensation":"{compensation_of(fact.step)}"'.encode() in bytes(fact.data):
                progress.due[fact.step] = None
            if fact.shielded and not fact.parent and not is_compensation(fact.step):
                progress.past.add(fact.step)
            if fact.step in ledger.open:
                ledger.open[fact.step].shielded = False  # nobody is here to run it
        elif isinstance(fact, facts.StepCompleted) and is_compensation(fact.step):
            progress.due.pop(fact.step.removeprefix(COMPENSATION), None)
        elif isinstance(fact, facts.StepFailed):
            progress.past.discard(fact.step)
        return progress

    def decide(self, _progress: Ended) -> Sequence[Command]:
        """Return nothing."""
        return ()

    def work(self, _progress: Ended, step: OpenStep) -> NoReturn:
        """Refuse to run a step."""
        raise NondeterminismError(f"step {step.step!r} needs the code of its run")

    child = work

    def encode(self, _progress: Ended) -> bytes:
        """Return nothing: there are no stored folds."""
        return b""

    def decode(self, _data: bytes) -> Ended:
        """Return the progress before any fact."""
        return Ended()

    def changes(self, _given: Mapping[str, Any]) -> msgspec.Raw:
        """Return no changes: it is not forked."""
        return msgspec.Raw(b"{}")

    def state(self, _progress: Ended) -> dict[str, Any]:
        """Return no state: only the code knows it."""
        return {}
