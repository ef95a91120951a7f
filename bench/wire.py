"""Counts what a PostgreSQL client asks of its server: a relay between them that reads the server's answers.

It works on any server and for any client, asks for no rights and no extension, and slows the client down: for
passes that are not timed. Counted are finished statements (BEGIN, COMMIT and empty queries, too), round trips (the
server says that it is ready for the next query) and transactions (it says so outside a transaction, after a statement).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict

CHUNK_BYTES = 1 << 16
HEADER_BYTES = 5
ENCRYPTION_REQUESTS = (80877103, 80877104)  # TLS, GSSAPI
COMPLETE, EMPTY_QUERY, SUSPENDED, READY = b"C", b"I", b"s", b"Z"
IDLE = b"I"


@dataclass
class Traffic:
    """What was counted so far."""

    statements: int = 0
    round_trips: int = 0
    transactions: int = 0

    def since(self, before: Traffic) -> Traffic:
        return Traffic(
            self.statements - before.statements,
            self.round_trips - before.round_trips,
            self.transactions - before.transactions,
        )

    def per(self, count: int) -> dict[str, float]:
        return {
            "statements_per_step": self.statements / count,
            "round_trips_per_step": self.round_trips / count,
            "transactions_per_step": self.transactions / count,
        }


class Wire:
    """A relay to the server of a URL; `url` is the way through it."""

    def __init__(self, url: str) -> None:
        self._server = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._counts: list[Traffic] = []
        port = self._listener.getsockname()[1]
        self.url = with_parameters(url, host="127.0.0.1", port=str(port), sslmode="disable")

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def read(self) -> Traffic:
        """The sum over all connections."""
        counts = list(self._counts)
        return Traffic(
            sum(count.statements for count in counts),
            sum(count.round_trips for count in counts),
            sum(count.transactions for count in counts),
        )

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._connect()
                self._open += (client, server)
                count = Traffic()
                self._counts.append(count)
                threading.Thread(target=_forward, args=(client, server), daemon=True).start()
                threading.Thread(target=_answer, args=(server, client, count), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = self._server.get("host", "localhost"), self._server.get("port", "5432")
        if host.startswith("/"):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(f"{host}/.s.PGSQL.{port}")
            return connection
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def with_parameters(url: str, **changes: str) -> str:
    """Return the URL with other parts, named as libpq names them: host, port, sslmode..."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items()} | changes
    user, password, host = parts.pop("user", ""), parts.pop("password", ""), parts.pop("host")
    port, dbname = parts.pop("port"), parts.pop("dbname", "")
    who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"postgresql://{who + '@' if who else ''}{host}:{port}/{quote(dbname, safe='')}?{urlencode(parts)}"


def _forward(client: socket.socket, server: socket.socket) -> None:
    """Pass on what the client says. It may ask for encryption first, which is declined."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        first = client.recv(8, socket.MSG_WAITALL)
        while len(first) == 8 and struct.unpack("!II", first)[1] in ENCRYPTION_REQUESTS:
            client.sendall(b"N")
            first = client.recv(8, socket.MSG_WAITALL)
        server.sendall(first)
        while data := client.recv(CHUNK_BYTES):
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)


def _answer(server: socket.socket, client: socket.socket, count: Traffic) -> None:
    """Pass on what the server says, and count."""
    answers = _messages(count)
    next(answers)
    with contextlib.suppress(OSError):
        while data := server.recv(CHUNK_BYTES):
            answers.send(data)
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)


def _messages(count: Traffic) -> Iterator[None]:
    """Take the server's stream apart: a letter, a length, a body."""
    waiting = bytearray()
    ran = False
    while True:
        waiting += yield  # type: ignore[misc]
        begin = 0
        while len(waiting) - begin >= HEADER_BYTES:
            kind = bytes(waiting[begin : begin + 1])
            end = begin + 1 + int.from_bytes(waiting[begin + 1 : begin + HEADER_BYTES], "big")
            if end > len(waiting):
                break
            if kind in (COMPLETE, EMPTY_QUERY, SUSPENDED):
                count.statements += 1
                ran = True
            elif kind == READY:
                count.round_trips += 1
                if ran and waiting[begin + HEADER_BYTES : end] == IDLE:
                    count.transactions += 1
                    ran = False
            begin = end
        del waiting[:begin]
