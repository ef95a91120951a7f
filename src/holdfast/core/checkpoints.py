"""Checkpoints: the positions of a run at which a round had ended, and the stores of the user's that are fed with them.

A checkpoint is computed, from the journal alone. It is the state after the fact that completed the last step of a
round; the first one is the state that the run begins with, before any node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, runtime_checkable

from holdfast.core.events import Row, kind_of, positioned
from holdfast.core.program import START
from holdfast.errors import DefinitionError, RunNotFound
from holdfast.model import facts
from holdfast.model.audit import Checkpoint
from holdfast.model.ids import RunId, StepId, moment
from holdfast.model.state import State


@runtime_checkable
class CheckpointStore(Protocol):
    """Keeps the latest checkpoint of each run, by the state's `run_id`. The methods may be plain or async.

    It is fed after the commit, in order per run, and read by nobody but the user: the journal stays the truth.
    """

    def save(self, state: State) -> Awaitable[None] | None:
        """Keep the state as the checkpoint of its run, in place of the one before."""

    def load(self, run_id: RunId) -> Awaitable[State] | State:
        """Return the run's checkpoint; raises LookupError when there is none."""

    def delete(self, run_id: RunId) -> Awaitable[None] | None:
        """Forget the run's checkpoint, if there is one."""

    def list(self) -> Awaitable[Sequence[RunId]] | Sequence[RunId]:
        """Return the runs that have a checkpoint."""


class MemoryCheckpointStore:
    """Keeps checkpoints while the process lives. Thread-safe."""

    def __init__(self) -> None:
        """Begin empty."""
        self._states: dict[RunId, State] = {}

    def save(self, state: State) -> None:
        """Keep the state as the checkpoint of its run."""
        self._states[state.run_id] = state

    def load(self, run_id: RunId) -> State:
        """Return the run's checkpoint; raises RunNotFound when there is none."""
        try:
            return self._states[run_id]
        except KeyError:
            raise RunNotFound(
                f"no checkpoint of run {run_id!r}", fix="list() tells which there are."
            ) from None

    def delete(self, run_id: RunId) -> None:
        """Forget the run's checkpoint, if there is one."""
        self._states.pop(run_id, None)

    def list(self) -> Sequence[RunId]:
        """Return the runs that have a checkpoint."""
        return tuple(self._states)


_stores: Final[dict[str, CheckpointStore]] = {"memory": MemoryCheckpointStore()}


def register_checkpoint_store(name: str, store: CheckpointStore) -> None:
    """Let `store` be given by name; it replaces one of that name. Thread-safe."""
    _stores[name] = check_store(store)


def get_checkpoint_store(name: str) -> CheckpointStore:
    """Return the checkpoint store of that name. Raises DefinitionError when there is none."""
    found = _stores.get(name)
    if found is None:
        raise DefinitionError(
            f"unknown checkpoint store: {name}",
            fix=f"Known are {', '.join(sorted(_stores))}. Add others with register_checkpoint_store(name, store).",
        )
    return found


def check_store(store: object) -> CheckpointStore:
    """Return the store; raises DefinitionError when it lacks a method."""
    if isinstance(store, CheckpointStore):
        return store
    raise DefinitionError(
        f"not a checkpoint store: {store!r:.80}", fix="Give an object with save, load, delete and list."
    )


class Checkpointing(NamedTuple):
    """How a workflow's runs are checkpointed: into which store, given or by name, every how many rounds (0: never)."""

    store: CheckpointStore | str | None = None
    interval: int = 1
    preserve: bool = True

    def lists(self, checkpoint: Checkpoint) -> bool:
        """Tell whether this one counts."""
        return self.interval > 0 and checkpoint.round % self.interval == 0

    def target(self) -> CheckpointStore | None:
        """Return the store that is fed, if there is one. Raises DefinitionError for an unknown name."""
        if not self.interval or self.store is None:
            return None
        return get_checkpoint_store(self.store) if isinstance(self.store, str) else self.store


def checkpointing_of(workflow: object) -> Checkpointing:
    """Return how a workflow says that its runs are checkpointed; one that says nothing has each round listed."""
    said = getattr(workflow, "checkpointing", None)
    return said if isinstance(said, Checkpointing) else Checkpointing()


class Rounds:
    """Finds checkpoints in the facts of one run, in order."""

    def __init__(self) -> None:
        """Begin before the first fact."""
        self._round = -1
        self._open: dict[StepId, str] = {}
        self._ended: dict[StepId, str] = {}

    def absorb(self, position: int, fact: facts.Fact) -> Checkpoint | None:
        """Return the checkpoint that the fact at `position` makes, if it ends a round."""
        if isinstance(fact, facts.StepScheduled) and _counts(fact):
            self._open[fact.step] = fact.name
        elif isinstance(fact, facts.StepCompleted) and fact.step in self._open:
            self._ended[fact.step] = self._open[fact.step]
            if len(self._ended) == len(self._open):
                return self._checkpoint(position, fact)
        elif isinstance(fact, facts.RunContinued):
            self._open, self._ended = {}, {}
        return None

    def _checkpoint(self, position: int, fact: facts.Fact) -> Checkpoint:
        nodes = tuple(dict.fromkeys(self._open.values()))
        self._open, self._ended, self._round = {}, {}, self._round + 1
        return Checkpoint(position=position, nodes=nodes, round=self._round, at=moment(fact.at))


def _counts(fact: facts.StepScheduled) -> bool:
    return fact.name == START or kind_of(fact.step) == "stage"


def checkpoints(rows: Iterable[Row], checkpointing: Checkpointing) -> Iterator[Checkpoint]:
    """Return the listed checkpoints of a whole journal, in order."""
    rounds = Rounds()
    for row in rows:
        for position, fact in positioned(row):
            found = rounds.absorb(position, fact)
            if found is not None and checkpointing.lists(found):
                yield found
