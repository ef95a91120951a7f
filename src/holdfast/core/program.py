"""What a pattern is to the engine: a workflow that opens a pure program for each run.

A program answers three questions and never waits, reads a clock, draws a random number or touches a database: what is
known after one more fact (`evolve`), what is wanted and not yet recorded (`decide`), and what running a step means
(`work`). After a crash `decide` of the folded journal is exactly the outstanding work.
A new pattern is a folder in `patterns/` with its program and workflow, and a branch in `registry.as_workflow`.
(The split of decide and evolve is the Decider of Chassaing, 2021.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from holdfast.core.ledger import Ledger, OpenStep
from holdfast.core.work import Blobs, Child, Work
from holdfast.model.commands import Command
from holdfast.model.facts import Fact

START: Final = "START"
END: Final = "END"


class Progress(Protocol):
    """What a program knows after some facts. The driver owns it; nobody keeps an older one."""

    ledger: Ledger


P = TypeVar("P", bound=Progress)


class Program(Protocol[P]):
    """The pure heart of one run."""

    @property
    def checkpoints(self) -> bool:
        """False: progress cannot be encoded; it is rebuilt by replay."""

    @property
    def hash(self) -> str:
        """Changes with the definition, "" for one with a problem; a stored fold of another hash is ignored."""

    @property
    def problem(self) -> BaseException | None:
        """What keeps today's definition from driving the run beyond its beginning; such a run is parked."""

    def start(self) -> P:
        """Return the progress before any fact."""

    def evolve(self, progress: P, fact: Fact) -> P:
        """Absorb one fact: amortised O(1), may mutate and return its argument, never raises."""

    def decide(self, progress: P) -> Sequence[Command]:
        """Return what is wanted and not yet recorded; costs what is wanted, not what is open. Never raises."""

    def work(self, progress: P, step: OpenStep) -> Work:
        """Return how to run an open step of kind `call`; raises NondeterminismError for one that it does not know."""

    def child(self, progress: P, step: OpenStep) -> Child:
        """Return what an open step of kind `run` starts; raises NondeterminismError for one that it does not know."""

    def encode(self, progress: P) -> bytes:
        """Return the progress as bytes for a stored fold."""

    def decode(self, data: bytes) -> P:
        """Return the progress of a stored fold."""

    def changes(self, given: Mapping[str, Any]) -> msgspec.Raw:
        """Return changes to the user's state as a fork records them; raises PayloadRejected naming the key."""

    def state(self, progress: P) -> dict[str, Any]:
        """Return the user's state as it stands, decoded."""


class Workflow(Protocol):
    """A named, versioned definition. Every builder makes one."""

    @property
    def name(self) -> str:
        """The name that runs are started by."""

    @property
    def version(self) -> str:
        """The author's version; kept with each run."""

    @property
    def description(self) -> str:
        """One line for people."""

    @property
    def queue(self) -> str:
        """The queue of its runs, unless another is given."""

    @property
    def priority(self) -> int:
        """The priority of its runs, unless another is given."""

    @property
    def timeout(self) -> float | None:
        """Seconds after which a run fails, unless others are given."""

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the params as the run will get them; raises PayloadRejected naming the field."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the params."""

    def open(self, services: Any, params: dict[str, Any], blobs: Blobs) -> Program[Any]:
        """Return the program of one run. A factory that raises is the failure of its step START, not of this call.

        `blobs` holds the run's large values by hash: the driver and the program add to it, commits carry what is new.
        """


FOLDS: Final = 6
"""The form of stored folds; raise it when a progress is encoded differently, and older folds are passed over."""


def fold_key(program: Program[Any]) -> str:
    """Return what a stored fold must carry to be of use to this program: its hash, and the form of folds."""
    return f"{program.hash}/{FOLDS}"


def fold(program: Program[P], progress: P, journal: Sequence[Fact]) -> P:
    """Return the progress after more facts."""
    evolve = program.evolve
    for fact in journal:
        progress = evolve(progress, fact)
    return progress
