"""A connection to PostgreSQL, driven at the level of libpq: batches of statements, one round trip each.

All statements of a batch are one transaction, written or not as a whole. Batches go out at once, however many are
under way, and are answered in order. Nothing here depends on the server's session, so that a pooler may give each
transaction another one: nothing is set, and where the session has lost a prepared statement, or may not have any, the
batch, of which nothing was written, goes out once more with its statements as they are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import psycopg
from psycopg import errors, pq
from psycopg.pq.abc import PGconn, PGresult

from holdfast.store.postgres.wire import Value

_BINARY: Final = 1

_UNPREPARED: Final = frozenset({"26000", "42P05", "0A000"})
"""What a server or pooler says where a prepared statement is unknown, there already, out of date or forbidden."""


class Statement(NamedTuple):
    """SQL with its parameters."""

    sql: bytes
    values: Sequence[Value] = ()
    name: bytes = b""
    """Under which the server may keep it prepared. One name stands for one text, whoever prepared it."""


Heard = Callable[[list[PGresult], "psycopg.Error | None"], None]
"""Called with the results of a batch, or with what went wrong."""


class _Batch:
    __slots__ = ("error", "heard", "prepared", "results", "statements")

    def __init__(self, statements: Sequence[Statement], heard: Heard) -> None:
        self.statements = statements
        self.heard = heard
        self.prepared = False
        self.results: list[PGresult] = []
        self.error: psycopg.Error | None = None

    def add(self, result: PGresult) -> None:
        if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            self.results.append(result)
        elif self.error is None and result.status == pq.ExecStatus.FATAL_ERROR:
            self.error = errors.error_from_result(result)

    @property
    def is_unprepared(self) -> bool:
        """Tell whether nothing but a prepared statement was in its way."""
        return self.prepared and self.error is not None and self.error.sqlstate in _UNPREPARED

    def end(self) -> None:
        self.heard(self.results, self.error)


class Link:
    """One connection, for the loop that opened it."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        """Take over a fresh connection in autocommit mode."""
        self._connection = connection
        self._conn: PGconn = connection.pgconn
        self._conn.nonblocking = 1
        self._conn.enter_pipeline_mode()
        self._socket = self._conn.socket
        self._loop = asyncio.get_running_loop()
        self._batches: deque[_Batch] = deque()
        self._writing = False
        self._prepared: set[bytes] = set()
        self._prepares = True
        self.lost = False
        """True when the connection is of no more use."""
        self.heard: Callable[[bytes], None] | None = None
        """Called with the text of each notification."""
        self._loop.add_reader(self._socket, self._read)

    @classmethod
    async def open(cls, conninfo: str) -> Link:
        """Connect. Raises psycopg.Error."""
        return cls(await psycopg.AsyncConnection.connect(conninfo, autocommit=True))

    @property
    def backend(self) -> int:
        """The number of the server's process, or of a pooler's client."""
        return self._conn.backend_pid

    def send(self, *statements: Statement) -> asyncio.Future[list[PGresult]]:
        """Run statements as one transaction; returns their results. Raises psycopg.Error.

        An error without `sqlstate` means that the connection was lost: what became of the batch is not known.
        """
        future: asyncio.Future[list[PGresult]] = self._loop.create_future()

        def heard(results: list[PGresult], error: psycopg.Error | None) -> None:
            if future.done():  # the caller was cancelled
                return
            if error is None:
                future.set_result(results)
            else:
                future.set_exception(error)

        self.post(statements, heard)
        return future

    def post(self, statements: Sequence[Statement], heard: Heard) -> None:
        """Run statements as one transaction, as `send` does; `heard` is called by who reads the answer."""
        batch = _Batch(statements, heard)
        if self.lost:
            batch.error = psycopg.OperationalError("the connection was lost before")
            self._loop.call_soon(batch.end)
            return
        try:
            for statement in statements:
                if statement.name and self._prepares and statement.name not in self._prepared:
                    self._prepare(statement)
            self._batches.append(batch)
            for statement in statements:
                self._send(batch, statement)
            self._conn.pipeline_sync()
            self._flush()
        except psycopg.Error as error:
            self._lose(error)

    def _send(self, batch: _Batch, statement: Statement) -> None:
        values = statement.values
        data, formats = [value.data for value in values], (_BINARY,) * len(values)
        if statement.name in self._prepared and self._prepares:
            batch.prepared = True
            self._conn.send_query_prepared(statement.name, data, formats, _BINARY)
        else:
            self._conn.send_query_params(
                statement.sql, data, [value.type for value in values], formats, _BINARY
            )

    def _prepare(self, statement: Statement) -> None:
        """Have the server prepare a statement, in a batch before that which needs it."""
        self._batches.append(_Batch((), _ignore))
        self._conn.send_prepare(statement.name, statement.sql, [value.type for value in statement.values])
        self._conn.pipeline_sync()
        self._prepared.add(statement.name)

    def close(self) -> None:
        """Disconnect; what is under way fails."""
        if not self.lost:
            self._lose(psycopg.OperationalError("the connection was closed"))

    def _flush(self) -> None:
        left = self._conn.flush()
        if left and not self._writing:
            self._writing = True
            self._loop.add_writer(self._socket, self._write)
        elif not left and self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket)

    def _write(self) -> None:
        try:
            self._flush()
        except psycopg.Error as error:
            self._lose(error)

    def _read(self) -> None:
        conn = self._conn
        try:
            conn.consume_input()
            if self._writing:
                self._flush()
            self._take()
        except psycopg.Error as error:
            self._lose(error)
            return
        while (told := conn.notifies()) is not None:
            if self.heard is not None:
                self.heard(told.extra)
        if conn.status == pq.ConnStatus.BAD:
            self._lose(psycopg.OperationalError("the server closed the connection"))

    def _take(self) -> None:
        """Hand over what has come in whole."""
        conn, batches = self._conn, self._batches
        ended = False
        while batches and not conn.is_busy():
            result = conn.get_result()
            if result is None:  # ends the results of each statement; two in a row: nothing is there
                if ended:
                    return
                ended = True
                continue
            ended = False
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                batch = batches.popleft()
                if batch.is_unprepared:
                    self._prepares = False
                    self.post(batch.statements, batch.heard)
                else:
                    batch.end()
            else:
                batches[0].add(result)

    def _lose(self, error: psycopg.Error) -> None:
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._socket)
        if self._writing:
            self._loop.remove_writer(self._socket)
        self._conn.finish()
        batches, self._batches = self._batches, deque()
        for batch in batches:
            batch.error = _without_state(batch.error or error)
            batch.end()


def _ignore(_results: list[PGresult], _error: psycopg.Error | None) -> None:
    """Take note of nothing: what went wrong is told to who comes next."""


def _without_state(error: psycopg.Error) -> psycopg.Error:
    """Return the error as one that leaves open what was written: the server's last words came before the end."""
    return error if error.sqlstate is None else psycopg.OperationalError(str(error))
