"""A group of commits as statements: one for each kind of row, each with one array per column.

All of a group is one transaction. The statements decide by themselves which commits are accepted: `advance` moves a run
on where position and epoch are as expected, and what goes beside the journal is written only for what was moved on.
Commits of one run in one group stand in layers, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, assert_never

from psycopg.pq.abc import PGresult

from holdfast.model.commit import (
    Commit,
    Committed,
    Conflict,
    Deliver,
    Dequeue,
    Enqueue,
    Keep,
    StartRun,
    Withdraw,
)
from holdfast.model.facts import FORMAT, Journal
from holdfast.store import codec
from holdfast.store.postgres.link import Statement
from holdfast.store.postgres.queries import NAMES, SQL
from holdfast.store.postgres.wire import Value, blobs, documents, number, numbers, rows, texts

_FORMAT: Final = number(FORMAT)

_OPENING: Final[Sequence[Callable[[Any], Value]]] = (
    *(texts, texts, texts, texts, texts, texts, numbers, texts, documents, texts, texts),
    *(numbers, numbers, texts, texts, texts, texts, numbers, numbers, numbers, numbers, numbers),
)
"""How the columns of `codec.opening_columns` go over."""

_MOVING: Final[Sequence[Callable[[Any], Value]]] = (
    *(texts, numbers, numbers, numbers, texts, numbers, texts, documents, texts, texts, texts, texts),
)
"""How what a commit sets in its run goes over, with its row of the journal."""

_KEEPING: Final[Sequence[Callable[[Any], Value]]] = (
    *(texts, texts, texts, texts, texts, texts, texts, numbers, texts, numbers, documents, documents),
)
"""How results for the cache go over, each with its run and a commit of that."""


class Group:
    """The commits of one transaction, packed."""

    def __init__(self, commits: Sequence[Commit], turn: Value) -> None:
        """Pack the commits; groups with the same `turn` are written one after the other, on any connection."""
        self.statements: list[Statement] = []
        self._count = len(commits)
        self._commits: Sequence[Commit] = commits
        self._sizes = [0] * len(commits)
        self._verdicts: list[tuple[int, Sequence[int]]] = []
        self._dequeues: list[tuple[int, Sequence[int]]] = []
        self._turn = turn
        self._large: list[tuple[str, str, str, bytes]] = []
        """Params of runs that begin, which stand apart."""
        self._lock_others()
        for opening, moving in _layers(commits):
            if opening:
                self._open(opening)
            if moving:
                self._advance(moving)
            members = sorted([*opening, *moving])
            if begun := [
                (n, effect.first)
                for n in members
                for effect in commits[n].effects
                if type(effect) is StartRun
            ]:
                members = self._open_children(begun) + members
            self._write_rest(members)
        self._keep_results()

    def read(self, results: Sequence[PGresult]) -> tuple[list[Committed | Conflict], int]:
        """Return the answers in the order of the commits, and the number of the transaction."""
        conflicts: set[int] = set()
        tx = 0
        for index, members in self._verdicts:
            (((accepted, number_),),) = rows(results[index])
            tx = number_ or tx
            if accepted is not None:
                conflicts |= set(members) - {members[n] for n in accepted}
        released, wakes = self._read_dequeues(results)
        answers: list[Committed | Conflict] = []
        for n, commit in enumerate(self._commits[: self._count]):
            if n in conflicts:
                answers.append(Conflict(commit.run))
            else:
                position = commit.position + len(commit.facts)
                answers.append(
                    Committed(commit.run, position, n in released, wakes.get(n, 0), self._sizes[n])
                )
        return answers, tx

    def _read_dequeues(self, results: Sequence[PGresult]) -> tuple[set[int], dict[int, int]]:
        released: set[int] = set()
        wakes: dict[int, int] = {}
        for index, members in self._dequeues:
            stay = {members[n]: count for n, count in rows(results[index])}
            released |= set(members) - stay.keys()
            wakes |= stay
        return released, wakes

    def _say(self, name: str, *values: Value) -> int:
        self.statements.append(Statement(SQL[name], values, NAMES.get(name, b"")))
        return len(self.statements) - 1

    def _lock_others(self) -> None:
        """Take all locks in one order, when commits write to runs that are not their own."""
        others = {
            effect.run
            for commit in self._commits
            if commit.effects
            for effect in commit.effects
            if type(effect) is Deliver and effect.run not in ("", commit.run)
        }
        if others:
            own = {commit.run for commit in self._commits if commit.opened is None}
            self._say("turn", self._turn)
            self._say("lock_runs", texts(sorted(own | others)))

    def _open(self, members: Sequence[int]) -> None:
        columns = self._opening(members)
        self._verdicts.append((self._say("open", self._turn, *columns), members))

    def _open_children(self, begun: Sequence[tuple[int, Commit]]) -> list[int]:
        """Open runs that commits of these numbers begin; returns the numbers that their first commits get."""
        starts = [self._commits[n] for n, _ in begun]
        members = [*range(len(self._commits), len(self._commits) + len(begun))]
        self._commits = [*self._commits, *(first for _, first in begun)]
        self._sizes += [0] * len(begun)
        runs, ids = texts([commit.run for commit in starts]), texts([commit.id for commit in starts])
        self._say("open_children", self._turn, runs, ids, *self._opening(members))
        return members

    def _opening(self, members: Sequence[int]) -> list[Value]:
        """Return the columns of runs that begin; their large params are kept with the rest."""
        columns = []
        for n in members:
            commit = self._commits[n]
            row = commit.opened
            assert row is not None  # noqa: S101 - that is what makes it an opening
            params = bytes(row.params)
            if len(params) > codec.SMALL_PARAMS:
                self._large.append((commit.run, commit.id, codec.PARAMS_HASH, params))
                params = b""
            columns.append(codec.opening_columns(commit, row, params))
        packed = [pack(column) for pack, column in zip(_OPENING, zip(*columns, strict=True), strict=True)]
        workers = texts([self._commits[n].worker for n in members])
        return [*packed, workers, documents([self._facts(n) for n in members])]

    def _advance(self, members: Sequence[int]) -> None:
        columns = zip(*[self._moving(n, self._commits[n]) for n in members], strict=True)
        packed = [pack(column) for pack, column in zip(_MOVING, columns, strict=True)]
        verdict = self._say("advance", self._turn, *packed, _FORMAT)
        self._verdicts.append((verdict, members))

    def _moving(self, n: int, commit: Commit) -> tuple[Any, ...]:
        return (
            commit.run,
            commit.position,
            commit.epoch,
            len(commit.facts),
            commit.id,
            commit.at,
            commit.worker,
            self._facts(n),
            None if commit.status is commit.was else commit.status.value,
            codec.texts(commit.waiting_on),
            codec.optional(commit.progress),
            codec.optional(commit.error),
        )

    def _facts(self, n: int) -> bytes:
        facts = self._commits[n].facts
        if not facts:
            return b""
        data = Journal.encode(facts)
        self._sizes[n] = len(data)
        return data

    def _write_rest(self, members: Sequence[int]) -> None:
        """Write what goes beside the journal, for those of a layer that have such."""
        some = [
            n
            for n in members
            if (commit := self._commits[n]).effects
            or commit.consumed
            or commit.blobs
            or commit.checkpoint is not None
        ]
        if not some and not self._large:
            return
        commits = [self._commits[n] for n in some]
        if taken := [(each.run, each.id, id_) for each in commits for id_ in each.consumed]:
            runs, ids, arrivals = zip(*taken, strict=True)
            self._say("consume", texts(runs), texts(ids), numbers(arrivals))
        self._write_inboxes(commits)
        self._write_jobs(some)
        kept, self._large = self._large, []
        if kept := kept + [(each.run, each.id, *blob) for each in commits for blob in each.blobs.items()]:
            runs, ids, hashes, data = zip(*kept, strict=True)
            self._say("keep", texts(runs), texts(ids), texts(hashes), blobs(data))
        if folds := [
            (each.run, each.id, each.checkpoint_hash, each.checkpoint)
            for each in commits
            if each.checkpoint is not None
        ]:
            runs, ids, hashes, data = zip(*folds, strict=True)
            self._say("fold", texts(runs), texts(ids), texts(hashes), blobs(data))

    def _keep_results(self) -> None:
        """Keep results of all layers in one statement: what comes after another of its run names that one, too."""
        kept: list[tuple[Any, ...]] = []
        for n, commit in enumerate(self._commits):
            for effect in commit.effects:
                if type(effect) is Keep:
                    columns = codec.cache_columns(effect.entry)
                    later = [each.id for each in self._commits[n:] if each.run == commit.run]
                    kept += [(commit.run, id_, *columns[:5], *columns[6:]) for id_ in later]
        if kept:
            columns_ = zip(*kept, strict=True)
            self._say("keep_results", *(pack(c) for pack, c in zip(_KEEPING, columns_, strict=True)))

    def _write_inboxes(self, commits: Iterable[Commit]) -> None:
        withdrawn: list[tuple[str, str, str, int]] = []
        sent: list[tuple[Any, ...]] = []
        for commit in commits:
            gone, stays = _inbox_of(commit)
            withdrawn += gone
            sent += stays
        if withdrawn:
            runs, ids, keys, prefixes = zip(*withdrawn, strict=True)
            self._say("withdraw", texts(runs), texts(ids), texts(keys), numbers(prefixes))
        if again := [
            (commit.run, commit.id, effect.run, commit.at)
            for commit in commits
            for effect in commit.effects
            if type(effect) is Deliver and effect.reopens
        ]:
            runs, ids, targets, ats = zip(*again, strict=True)
            self._say("go_on", texts(runs), texts(ids), texts(targets), numbers(ats))
        if sent:
            runs, ids, targets, keys, dues, ats, facts = zip(*sent, strict=True)
            self._say(
                "send",
                *(texts(runs), texts(ids), texts(targets), texts(keys)),
                *(numbers(dues), numbers(ats), documents(facts)),
            )

    def _write_jobs(self, members: Sequence[int]) -> None:
        dequeued: list[int] = []
        seen: list[int | None] = []
        enqueued: list[tuple[Any, ...]] = []
        for n in members:
            commit = self._commits[n]
            for effect in commit.effects:
                if type(effect) is Dequeue and (not dequeued or dequeued[-1] != n):
                    dequeued.append(n)
                    seen.append(effect.wakes)
                    if commit.opened is not None:  # it begins and ends at once: no job stays
                        enqueued = [row for row in enqueued if row[0] != commit.run]
                elif type(effect) is Enqueue:
                    lane = (effect.queue, effect.workflow, effect.priority, effect.worker)
                    enqueued.append((commit.run, commit.id, *lane))
        if dequeued:
            commits = [self._commits[n] for n in dequeued]
            index = self._say(
                "dequeue",
                texts([commit.run for commit in commits]),
                texts([commit.id for commit in commits]),
                texts([commit.worker for commit in commits]),
                numbers(seen),
            )
            self._dequeues.append((index, dequeued))
        if enqueued:
            runs, ids, queues, workflows, priorities, workers = zip(*enqueued, strict=True)
            self._say(
                "enqueue",
                *(texts(runs), texts(ids), texts(queues), texts(workflows)),
                *(numbers(priorities), texts(workers)),
            )


def _layers(commits: Sequence[Commit]) -> Sequence[tuple[list[int], list[int]]]:
    """Return the indexes of commits in layers that hold each run once: those that open runs, and those that go on.

    Within a layer they stand in the order of the runs' ids, as everyone takes the locks.
    """
    layers: list[tuple[list[int], list[int]]] = []
    before: dict[str, int] = {}
    for n, commit in enumerate(commits):
        depth = before.get(commit.run, 0)
        before[commit.run] = depth + 1
        if depth == len(layers):
            layers.append(([], []))
        layers[depth][commit.opened is None].append(n)
    for layer in layers:
        for members in layer:
            members.sort(key=lambda n: commits[n].run)
    return layers


def _inbox_of(commit: Commit) -> tuple[list[tuple[str, str, str, int]], list[tuple[Any, ...]]]:
    """Return what a commit takes from its inbox, and what it puts into that and others after that."""
    gone: list[tuple[str, str, str, int]] = []
    stays: list[tuple[Any, ...]] = []
    for effect in commit.effects:
        match effect:
            case Deliver(key, due, fact, run):
                target = run or commit.run
                stays.append((commit.run, commit.id, target, key or None, due, due or commit.at, fact))
            case Withdraw(key):
                prefix = not key or key.endswith("*")
                begin = key[:-1] if prefix else key
                gone.append((commit.run, commit.id, begin, int(prefix)))
                stays = [row for row in stays if row[2] != commit.run or not _matches(row[3], begin, prefix)]
            case Enqueue() | Dequeue() | StartRun() | Keep():
                pass
            case _:
                assert_never(effect)
    return gone, stays


def _matches(key: str | None, begin: str, prefix: bool) -> bool:  # noqa: FBT001 - how `begin` is meant
    return (key or "").startswith(begin) if prefix else key == begin
