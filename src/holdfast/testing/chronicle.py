"""The chronicle of a world: what the store really did, in order, and what of that must never happen.

It keeps its own books of who holds which run under which epoch, from what the store answered to claims and reclaims,
and judges each commit by them. So it notices a store that lets a stale holder write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from holdfast.core.children import child_id
from holdfast.model import facts
from holdfast.model.commit import Commit, Committed, Conflict, Dequeue, Enqueue, StartRun
from holdfast.model.ids import CommitId, RunId, StepId, WorkerId
from holdfast.store.rows import Claimed

PARKED_AFTER: Final = 3
"""Deaths without a step's end in between, after which a run may be parked."""


class Written(msgspec.Struct, frozen=True):
    """A commit that the store took."""

    commit: Commit
    worker: WorkerId

    @property
    def facts(self) -> Sequence[facts.Fact]:
        """What it recorded."""
        return self.commit.facts


class Book(msgspec.Struct):
    """What is known of one run."""

    epoch: int = 1
    holder: WorkerId = ""
    position: int = 0
    deaths: int = 0
    written: list[Written] = []
    allowed: set[tuple[StepId, int]] = set()
    """Attempts whose start is recorded."""
    completed: set[StepId] = set()
    ended: bool = False
    resumed_alone: bool = False
    """Somebody resumed it after an end, and not by way of its parent, which may have been told of that end already."""


class Chronicle:
    """A witness that keeps books and notes violations."""

    def __init__(self) -> None:
        """Begin with an empty store."""
        self.books: Final[dict[RunId, Book]] = {}
        self.violations: Final[list[str]] = []
        self.commits = 0
        self.conflicts = 0
        self.doubted: Final[set[CommitId]] = set()
        """Commits whose senders were told that the store is unavailable, while they were still under way."""

    def doubt(self, commits: Sequence[Commit]) -> None:
        """Take note that nobody knows whether these will be written."""
        for commit in commits:
            begun = (effect.first.id for effect in commit.effects if isinstance(effect, StartRun))
            self.doubted.update((commit.id, *begun))

    def committed(
        self, worker: WorkerId, commits: Sequence[Commit], answers: Sequence[Committed | Conflict]
    ) -> None:
        """Take note of commits, and of what is wrong with them."""
        for commit, answer in zip(commits, answers, strict=True):
            if isinstance(answer, Conflict):
                self.conflicts += 1
                continue
            self.commits += 1
            if commit.opened is not None:
                self.books[commit.run] = Book(holder=worker)
            if commit.run not in self.books:
                self.violations.append(f"run {commit.run}: a commit of a run that never began")
                continue
            book = self.books[commit.run]
            if not commit.facts and any(commit.id == written.commit.id for written in book.written):
                continue  # it came again, since its answer was lost; there is nothing that it writes twice
            self.violations.extend(
                f"run {commit.run}: {text}" for text in _wrong(book, commit, answer, worker)
            )
            _enter(book, Written(commit, worker), released=answer.released)
            self.violations.extend(self._hasty(commit))
            for effect in commit.effects:
                if isinstance(effect, StartRun):
                    self._begin(effect.first, worker)

    def _begin(self, first: Commit, worker: WorkerId) -> None:
        """Open a child's book."""
        self.books[first.run] = Book()
        _enter(self.books[first.run], Written(first, worker), released=False)

    def _hasty(self, commit: Commit) -> Iterator[str]:
        """Yield the steps that end before their children have."""
        for fact in commit.facts:
            if isinstance(fact, facts.STEP_ENDS):
                child = self.books.get(child_id(commit.run, fact.step))
                if child is not None and not (child.ended or child.resumed_alone):
                    yield f"run {commit.run}: {fact.step} ended before its child had"

    def claimed(self, worker: WorkerId, claims: Sequence[Claimed]) -> None:
        """Take note of new holders."""
        for claim in claims:
            book = self.books[claim.run.id]
            if claim.run.epoch <= book.epoch:
                self.violations.append(
                    f"run {claim.run.id}: claimed under epoch {claim.run.epoch} after {book.epoch}"
                )
            book.epoch, book.holder = claim.run.epoch, worker

    def reclaimed(self, workers: Sequence[WorkerId], runs: Sequence[RunId]) -> None:
        """Take note of runs that lost their holder."""
        for run in runs:
            book = self.books[run]
            book.deaths += 1
            book.epoch, book.holder = book.epoch + 1, ""

    def commits_of(self, run: RunId) -> list[Commit]:
        """Return a run's commits that recorded facts, in order."""
        return [written.commit for written in self.books[run].written if written.facts]

    def positions(self, worker: WorkerId) -> Iterator[tuple[RunId, int, facts.Fact, bool]]:
        """Yield each fact that a worker committed, with its run and position, in order per run.

        And whether it may be unknown to the worker: as a part of a first commit that was written after `start` raised.
        """
        for run, book in self.books.items():
            for written in book.written:
                unknown = written.commit.opened is not None and written.commit.id in self.doubted
                if written.worker == worker:
                    for position, fact in enumerate(written.facts, written.commit.position + 1):
                        yield run, position, fact, unknown


def _wrong(book: Book, commit: Commit, answer: Committed, worker: WorkerId) -> Iterator[str]:
    if commit.epoch != book.epoch:
        yield (
            f"{worker} committed at position {commit.position} under the stale epoch {commit.epoch}; "
            f"{book.holder or 'nobody'} holds epoch {book.epoch}"
        )
    elif book.holder != worker and not (book.written and book.written[-1].commit.id == commit.id):
        # The same commit may come again, when its answer was lost.
        yield f"{worker} committed at position {commit.position} what it had released"
    if commit.position != book.position:
        yield f"a commit at position {commit.position}; the journal has {book.position} facts"
    if answer.position != commit.position + len(commit.facts):
        yield f"the store answered position {answer.position} to {len(commit.facts)} facts at {commit.position}"
    for fact in commit.facts:
        poison = isinstance(fact, facts.RunPaused) and fact.error is not None and fact.error.code == "poison"
        if poison and commit.opened is None and book.deaths < PARKED_AFTER:  # a fork begins with a copy
            yield f"parked as poison after {book.deaths} deaths"


def _enter(book: Book, written: Written, *, released: bool) -> None:
    # A job that was to be given up and stays, since the run was woken, keeps its deaths though a step has ended.
    kept = not released and any(isinstance(effect, Dequeue) for effect in written.commit.effects)
    book.written.append(written)
    book.position += len(written.facts)
    for effect in written.commit.effects:
        if isinstance(effect, Enqueue) and (effect.worker or written.commit.opened is not None):
            book.holder = effect.worker
        elif isinstance(effect, Dequeue) and released:
            book.holder = ""
    for fact in written.facts:
        book.ended = isinstance(fact, facts.TERMINAL) or (
            book.ended and not isinstance(fact, facts.RunResumed)
        )
        match fact:
            case facts.StepScheduled():
                book.allowed.add((fact.step, 1))
            case facts.StepRetried():
                book.allowed.add((fact.step, fact.attempt))
            case facts.RunResumed():
                book.allowed.update(fact.reopened)
                book.resumed_alone = not fact.key.startswith("parent:")
            case facts.StepCompleted() | facts.StepFailed() | facts.StepCancelled():
                book.deaths = book.deaths if kept else 0
                if isinstance(fact, facts.StepCompleted):
                    book.completed.add(fact.step)
            case _:
                pass
