"""The program of a run that was asked to end and that its own code cannot drive: nothing but the end is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from holdfast.core.ledger import Ledger, OpenStep
from holdfast.errors import NondeterminismError
from holdfast.model.commands import Command
from holdfast.model.facts import Fact


class Ended:
    """What is known of the run."""

    def __init__(self) -> None:
        self.ledger = Ledger()


class Ending:
    """Wants nothing, so that the cancel that a run has recorded, or is about to, brings it to its end."""

    checkpoints = False
    problem = None
    hash = ""

    def start(self) -> Ended:
        """Return the progress before any fact."""
        return Ended()

    def evolve(self, progress: Ended, fact: Fact) -> Ended:
        """Absorb one fact. The run goes on by the definition that it went on by: this is none."""
        progress.ledger.absorb(fact)
        self.hash = progress.ledger.hash
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
