"""A pooler in transaction mode, as PgBouncer is: each transaction goes to another server connection.

It refuses startup parameters and named prepared statements, drops notifications, and speaks TLS when it is given a
certificate. It can also lose a client's connection before or after the server got a transaction. The server's
connections are made and authenticated by libpq.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import random
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import psycopg

SSL_REQUEST, GSS_REQUEST, CANCEL = 80877103, 80877104, 80877102
ALLOWED = {"user", "database", "client_encoding", "application_name"}
HEAD = struct.Struct(">ci")

Message = tuple[bytes, bytes]
Cut = Literal["before", "after"]


class Backend:
    """A connection to the server, taken over from libpq."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, owner: psycopg.Connection
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.owner = owner

    @classmethod
    async def open(cls, url: str) -> Backend:
        owner = await asyncio.to_thread(lambda: psycopg.connect(url, autocommit=True, sslmode="disable"))
        mine = socket.socket(fileno=os.dup(owner.pgconn.socket))
        return cls(*await asyncio.open_connection(sock=mine), owner)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
        self.owner.close()


class Pooler:
    """Listens on a port of its own."""

    def __init__(
        self, server: asyncio.Server, url: str, backends: list[Backend], tls: ssl.SSLContext | None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._backends = backends
        self._free: asyncio.Queue[Backend] = asyncio.Queue()
        self._tls = tls
        self._clients: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.port: int = server.sockets[0].getsockname()[1]
        parts = urlsplit(url)
        self.url = f"postgresql://{parts.username or 'postgres'}@127.0.0.1:{self.port}{parts.path}"
        self.cut: tuple[Cut, bytes] | None = None
        """Lose the connection of the next transaction that has these bytes, before or after the server gets it."""
        self.transactions = 0
        for backend in backends:
            self._free.put_nowait(backend)

    def drop_clients(self) -> None:
        """Lose all connections of clients; from any thread."""
        self.loop.call_soon_threadsafe(self.abort_clients)

    def abort_clients(self) -> None:
        for writer in self._clients:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            if await self._greet(reader, writer):
                while (batch := await read_batch(reader)) is not None:
                    await self._transact(batch, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._clients.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def close(self) -> None:
        """Lose all clients, and wait until nobody is served any more."""
        self.abort_clients()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while True:
            (length,) = struct.unpack(">i", await reader.readexactly(4))
            body = await reader.readexactly(length - 4)
            (code,) = struct.unpack(">i", body[:4])
            if code == SSL_REQUEST and self._tls is not None:
                writer.write(b"S")
                await writer.start_tls(self._tls)
            elif code in (SSL_REQUEST, GSS_REQUEST):
                writer.write(b"N")
            elif code == CANCEL:
                return False
            else:
                break
        words = body[4:].split(b"\0")
        refused = {word.decode() for word in words[:-2:2]} - ALLOWED
        if refused:
            writer.write(failure("08P01", f"unsupported startup parameter: {', '.join(refused)}", b"FATAL"))
            return False
        writer.write(message(b"R", struct.pack(">i", 0)))
        for name, value in (
            ("server_version", "17.0"),
            ("client_encoding", "UTF8"),
            ("integer_datetimes", "on"),
        ):
            writer.write(message(b"S", f"{name}\0{value}\0".encode()))
        writer.write(message(b"K", struct.pack(">ii", 1, 1)) + message(b"Z", b"I"))
        return True

    async def _transact(
        self, batch: list[Message], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass on a transaction, from its first batch to the one after which the server is idle again."""
        backend = await self._free.get()
        try:
            state = b"T"
            while state != b"I":
                state = await self._pass(batch, backend, writer)
                if state != b"I":
                    more = await read_batch(reader)
                    if more is None:
                        return
                    batch = more
            self.transactions += 1
        finally:
            self._free.put_nowait(backend)
            if random.random() < 0.5:  # the next transaction finds another order
                self._free.put_nowait(await self._free.get())

    async def _pass(self, batch: list[Message], backend: Backend, writer: asyncio.StreamWriter) -> bytes:
        if any(kind == b"P" and body[0] for kind, body in batch):
            writer.write(failure("0A000", "prepared statements are forbidden") + message(b"Z", b"I"))
            return b"I"
        data = b"".join(message(*each) for each in batch)
        cut, self.cut = (self.cut, None) if self.cut and self.cut[1] in data else (None, self.cut)
        if cut is not None and cut[0] == "before":
            writer.transport.abort()
            raise ConnectionResetError
        _, answer = await asyncio.gather(send(backend.writer, data), read_answer(backend.reader))
        if cut is not None:
            writer.transport.abort()
            raise ConnectionResetError
        writer.write(b"".join(message(*each) for each in answer))
        await writer.drain()
        return answer[-1][1]


@contextlib.contextmanager
def pooler(url: str, size: int = 3, tls: ssl.SSLContext | None = None) -> Iterator[Pooler]:
    """A pooler before a database, on a thread of its own."""
    ready: queue.SimpleQueue[Pooler | Exception] = queue.SimpleQueue()
    done = asyncio.Event()
    thread = threading.Thread(target=lambda: asyncio.run(run(url, size, tls, ready, done)), name="pooler")
    thread.start()
    running = ready.get()
    if isinstance(running, Exception):
        raise running
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(done.set)
        thread.join()


async def run(
    url: str,
    size: int,
    tls: ssl.SSLContext | None,
    ready: queue.SimpleQueue[Pooler | Exception],
    done: asyncio.Event,
) -> None:
    try:
        backends = [await Backend.open(url) for _ in range(size)]
        running: list[Pooler] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await running[0].serve(reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        running.append(Pooler(server, url, backends, tls))
    except Exception as error:  # noqa: BLE001 - for the thread that waits
        ready.put(error)
        return
    ready.put(running[0])
    await done.wait()
    server.close()
    await running[0].close()
    for backend in backends:
        await backend.close()


async def read_message(reader: asyncio.StreamReader) -> Message:
    kind, length = HEAD.unpack(await reader.readexactly(HEAD.size))
    return kind, await reader.readexactly(length - 4)


async def read_batch(reader: asyncio.StreamReader) -> list[Message] | None:
    """What a client sends until it waits for an answer; None when it goes."""
    batch = []
    while True:
        kind, body = await read_message(reader)
        if kind == b"X":
            return None
        batch.append((kind, body))
        if kind in (b"S", b"Q"):
            return batch


async def read_answer(reader: asyncio.StreamReader) -> list[Message]:
    """What the server sends until it is ready again, without notifications, which belong to nobody here."""
    answer = []
    while True:
        kind, body = await read_message(reader)
        if kind != b"A":
            answer.append((kind, body))
        if kind == b"Z":
            return answer


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def message(kind: bytes, body: bytes) -> bytes:
    return HEAD.pack(kind, len(body) + 4) + body


def failure(state: str, text: str, severity: bytes = b"ERROR") -> bytes:
    fields = b"S" + severity + b"\0C" + state.encode() + b"\0M" + text.encode() + b"\0\0"
    return message(b"E", fields)
