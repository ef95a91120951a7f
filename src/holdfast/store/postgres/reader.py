"""What is read: runs, journals, arrivals, folds. Each method is one round trip."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq.abc import PGresult

from holdfast.model.cache import CacheEntry
from holdfast.model.ids import Instant, RunId, WorkerId
from holdfast.model.run import RunRow
from holdfast.store import codec
from holdfast.store.listing import Chosen, choose, statuses
from holdfast.store.postgres.failures import explained
from holdfast.store.postgres.lines import Line
from holdfast.store.postgres.link import Statement
from holdfast.store.postgres.queries import SQL
from holdfast.store.postgres.together import Together
from holdfast.store.postgres.wire import Value, number, numbers, rows, text, texts
from holdfast.store.rows import (
    CacheListed,
    CacheQuery,
    ChunkRow,
    Fold,
    InboxRow,
    JournalRow,
    LimitRow,
    RunQuery,
    Stored,
    WorkerRow,
)

T = TypeVar("T")

_MARK: Final = re.compile(r"\?")


class Reader:
    """Reads on a line; what a lost connection took with it is asked once more."""

    def __init__(self, line: Line, where: str, era: int) -> None:
        """Read there; `where` is what people are told, `era` today's part of the order of commits."""
        self._line = line
        self._where = where
        self._era = number(era)
        self._loads = Together(self._load)
        self._inboxes = Together(self._inbox)

    async def ask(self, *statements: Statement) -> list[PGresult]:
        """Return the results of statements that change nothing."""
        try:
            link = self._line.ready
            if link is not None:
                try:
                    return await link.send(*statements)
                except psycopg.Error as error:
                    if error.sqlstate is not None:
                        raise
            return await (await self._line.link()).send(*statements)
        except psycopg.Error as error:
            raise explained(error, self._where) from error

    async def _rows(self, name: str, *values: Value) -> list[tuple[Any, ...]]:
        (result,) = await self.ask(Statement(SQL[name], values))
        return rows(result)

    async def find_run(self, run: RunId) -> RunRow | None:
        """Return a run's row."""
        found = await self._rows("run_select", texts([run]))
        return codec.run_row(found[0]) if found else None

    async def load(self, run: RunId, hash_: str) -> Stored | None:
        """Return all that is needed to take a run up."""
        return await self._loads((run, hash_))

    async def fold(self, run: RunId, hash_: str, until: int) -> Fold | None:
        """Return the newest fold up to a position."""
        found = await self._rows("fold_until", text(run), text(hash_), number(until))
        return Fold(*found[0]) if found else None

    async def _load(self, wanted: Sequence[tuple[RunId, str]]) -> list[Stored | None]:
        """Return that of many: each statement sees a later state of append-only journals."""
        found: dict[tuple[RunId, str], Stored | None] = {}
        missing = [*dict.fromkeys(wanted)]
        for last in (False, False, True):  # a journal that stays incomplete is damaged
            once = zip(missing, await self._load_once(missing), strict=True)
            found |= {key: stored for key, stored in once if stored is None or last or _is_whole(stored)}
            missing = [key for key in missing if key not in found]
            if not missing:
                break
        return [found[key] for key in wanted]

    async def _load_once(self, wanted: Sequence[tuple[RunId, str]]) -> list[Stored | None]:
        runs, hashes = texts([run for run, _ in wanted]), texts([hash_ for _, hash_ in wanted])
        results = await self.ask(
            Statement(SQL["run_select"], (runs,)),
            Statement(SQL["fold_select"], (runs, hashes)),
            Statement(SQL["journal_rest"], (runs, hashes)),
            Statement(SQL["blob_select"], (runs,)),
        )
        found = {row.id: row for row in map(codec.run_row, rows(results[0]))}
        folds = {(run, fold[1]): Fold(*fold) for run, *fold in rows(results[1])}
        journals: dict[tuple[RunId, str], list[JournalRow]] = {}
        for hash_, *columns in rows(results[2]):
            each = _journal_row(columns)
            journals.setdefault((each.run, hash_), []).append(each)
        blobs: dict[RunId, dict[str, bytes]] = {}
        for run, hash_, data in rows(results[3]):
            blobs.setdefault(run, {})[hash_] = data
        return [
            Stored(row, folds.get(key), _until(row.position, journals.get(key, ())), blobs.get(key[0], {}))
            if (row := found.get(key[0])) is not None
            else None
            for key in wanted
        ]

    async def ready(self, statement: Statement) -> list[RunId]:
        """Return the runs whose jobs could be taken."""
        (result,) = await self.ask(statement)
        return [run for (run,) in rows(result)]

    async def journal(self, run: RunId, after: int, limit: int) -> list[JournalRow]:
        """Return the commits that hold facts after a position."""
        found = await self._rows("journal_select", text(run), number(after), number(limit))
        return [_journal_row(columns) for columns in found]

    async def chunks(self, run: RunId, after: int, limit: int) -> list[ChunkRow]:
        """Return the chunks of a run after one."""
        found = await self._rows("chunk_select", text(run), number(after), number(limit))
        return [ChunkRow(*columns) for columns in found]

    async def tail(self, worker: WorkerId, after: str, limit: int) -> list[JournalRow]:
        """Return the commits of a worker."""
        found = await self._rows("journal_tail", text(worker), *_cursor(after), number(limit))
        return [_journal_row(columns) for columns in found]

    async def commits_after(self, after: str, limit: int) -> list[JournalRow]:
        """Return the commits of all runs."""
        found = await self._rows("journal_after", *_cursor(after), self._era, number(limit))
        return [_journal_row(columns) for columns in found]

    async def blobs(self, run: RunId) -> Mapping[str, bytes]:
        """Return a run's large values."""
        return {hash_: data for _, hash_, data in await self._rows("blob_select", texts([run]))}

    async def inbox(self, run: RunId, at: Instant | None) -> list[InboxRow]:
        """Return a run's arrivals that may be taken."""
        return await self._inboxes((run, at))

    async def _inbox(self, wanted: Sequence[tuple[RunId, Instant | None]]) -> list[list[InboxRow]]:
        runs, ats = texts([run for run, _ in wanted]), numbers([at for _, at in wanted])
        found: list[list[InboxRow]] = [[] for _ in wanted]
        for n, id_, run, key, fact in await self._rows("inbox_select", runs, ats):
            found[n - 1].append(InboxRow(id_, run, key, fact or b""))
        return found

    async def held(self, worker: WorkerId) -> list[RunId]:
        """Return the runs that a worker holds."""
        return [run for (run,) in await self._rows("job_held", text(worker))]

    async def woken(self, worker: WorkerId, at: Instant | None) -> dict[RunId, int]:
        """Return the runs of a worker that have arrivals, with their jobs' wakes."""
        return dict(await self._rows("job_woken", text(worker), number(at)))

    async def next_due(self) -> Instant | None:
        """Return the earliest instant that an arrival waits for."""
        ((due,),) = await self._rows("inbox_due_next")
        return None if due is None else int(due)

    async def workers(self) -> list[WorkerRow]:
        """Return all workers."""
        return [codec.worker_row(row) for row in await self._rows("worker_select")]

    async def profiles(self, workflow: str) -> dict[str, bytes]:
        """Return a workflow's profiles by name."""
        return dict(await self._rows("profile_select", text(workflow)))

    async def limit(self, name: str) -> LimitRow | None:
        """Return a row that processes change together."""
        found = await self._rows("limit_select", text(name))
        return LimitRow(*found[0]) if found else None

    async def limits(self, prefix: str) -> dict[str, LimitRow]:
        """Return the rows whose names begin so, by their names, in order."""
        found = sorted(await self._rows("limits_select", text(prefix)))
        return {name: LimitRow(version, body) for name, version, body in found}

    async def cached(self, keys: Sequence[str]) -> dict[str, CacheEntry]:
        """Return the results that are kept under these keys."""
        return {row[0]: codec.cache_entry(row) for row in await self._rows("cache_select", texts(keys))}

    async def cached_last(self, families: Sequence[str]) -> dict[str, CacheEntry]:
        """Return the entry that each family got last."""
        return {row[1]: codec.cache_entry(row) for row in await self._rows("cache_last", texts(families))}

    async def cache(
        self, query: CacheQuery, limit: int, after: tuple[Instant, str] | None
    ) -> list[CacheListed]:
        """Return the results that match, from after one."""
        at, key = after or (None, None)
        chosen = (text(query.workflow), text(query.step), text(query.scope), number(at), text(key))
        return [CacheListed(*row) for row in await self._rows("cache_list", *chosen, number(limit))]

    async def runs(self, query: RunQuery) -> list[RunRow]:
        """Return the runs that match, in order; all statuses in one statement, so that no run is missed or twice."""
        way = "ASC" if query.ascending else "DESC"

        def part(chosen: Chosen) -> tuple[str, Sequence[Any]]:
            order = f"ORDER BY {chosen.at} {way}, {chosen.id} {way} LIMIT ?"
            return f"{SQL['run_list'].decode()}{chosen.where} {order}", (*chosen.values, query.limit)

        (result,) = await self.ask(_united(query, part, paged=True))
        found = [codec.run_row(columns) for columns in rows(result)]
        found.sort(key=lambda row: (row.created_at, row.id), reverse=not query.ascending)
        return found[: query.limit]

    async def count(self, query: RunQuery) -> int:
        """Return how many runs match."""

        def part(chosen: Chosen) -> tuple[str, Sequence[Any]]:
            return f"{SQL['run_count'].decode()}{chosen.where}", chosen.values

        (result,) = await self.ask(_united(query, part, paged=False))
        return sum(count for (count,) in rows(result))

    async def pulse(self, since: str | None, most: int) -> tuple[str, Instant, Sequence[int]]:
        """Return where the order of transactions stands, the server's clock, and who wrote since a standing."""
        ((snapshot, told, written),) = await self._rows("pulse", text(since), number(most), self._era)
        return snapshot, told, written

    async def faults(self) -> list[str]:
        """Return what is wrong with the database."""
        gaps, orphans = [
            rows(result)
            for result in await self.ask(Statement(SQL["journal_broken"]), Statement(SQL["orphans"]))
        ]
        faults = [f"{table}: a row belongs to the run {run}, which is unknown" for table, run in orphans]
        return faults + [f"run {run}: its journal has a gap" for (run,) in gaps]


def _united(
    query: RunQuery, part: Callable[[Chosen], tuple[str, Sequence[Any]]], *, paged: bool
) -> Statement:
    """Return one statement over the parts for all statuses, with numbered parameters."""
    parts = [part(choose(query, status, "holdfast.run_tags", paged=paged)) for status in statuses(query)]
    sql = " UNION ALL ".join(f"({text_})" for text_, _ in parts)
    values = [value for _, some in parts for value in some]
    numbered = itertools.count(1)
    sql = _MARK.sub(lambda _: f"${next(numbered)}", sql)
    return Statement(
        sql.encode(), [number(value) if isinstance(value, int) else text(value) for value in values]
    )


def _journal_row(columns: Sequence[Any]) -> JournalRow:
    era, tx, seq, *rest = columns
    return JournalRow(f"{era}.{tx}.{seq}", *rest)


def _cursor(cursor: str) -> tuple[Value, Value, Value]:
    era, tx, seq = (cursor or "0.0.0").split(".")
    return number(int(era)), text(tx), number(int(seq))


def _is_whole(stored: Stored) -> bool:
    """Tell whether the journal was read to where the row says that it goes."""
    after = stored.fold.position if stored.fold else 0
    return after + sum(each.count for each in stored.rows) == stored.run.position


def _until(position: int, journal: Sequence[JournalRow]) -> list[JournalRow]:
    """Return the rows that a run at that position knows; later ones were written since."""
    return [row for row in journal if row.position <= position]
