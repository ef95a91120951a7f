"""A real HTTP service on this machine that works, fails, says that it is busy, stalls, and works again, by a plan."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Literal, Self

Mood = Literal["well", "failing", "busy", "stalling"]

PLAN: Final[tuple[tuple[Mood, float], ...]] = (
    ("well", 2.0),
    ("failing", 2.5),
    ("well", 2.0),
    ("busy", 1.5),
    ("stalling", 2.5),
    ("well", 60.0),
)
"""In which mood the service is, and for how many seconds."""

STALL: Final = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came: when, in seconds since the service began, and in which mood it met the service."""

    at: float
    mood: Mood


class Service:
    """Listens on a free port of this machine, in threads; `requests` is what reached it."""

    def __init__(self, plan: tuple[tuple[Mood, float], ...] = PLAN) -> None:
        self.plan = plan
        self.requests: list[Request] = []
        self._began = 0.0
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/quote"

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def mood(self, at: float) -> Mood:
        for mood, seconds in self.plan:
            if at < seconds:
                return mood
            at -= seconds
        return self.plan[-1][0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                at = service.elapsed
                mood = service.mood(at)
                service.requests.append(Request(at, mood))
                match mood:
                    case "failing":
                        self._answer(500)
                    case "busy":
                        self._answer(503, {"Retry-After": "1"})
                    case "stalling":
                        service._closing.wait(STALL)
                        self._answer(504)
                    case _:
                        service._closing.wait(0.02)
                        self._answer(200)

            def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
                body = b'{"price": 42}' if status == 200 else b"{}"
                try:
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # whoever asked has gone

            def log_message(self, *_: object) -> None:
                pass

        return Handler
