"""A server that speaks the OpenAI-compatible chat protocol over real HTTP, plain and streamed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ModelServer:
    """What the server shall answer, and what it was asked."""

    url: str = ""
    status: int = 200
    content: str = "Paris."
    payload: str | None = None
    """Sent as it is, instead of a completion around `content`."""
    events: list[bytes] | None = None
    """What a streamed answer is made of, each written at once; by default `content`, word by word."""
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    """Takes requests and says nothing until the test ends."""
    requests: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


def event(text: str, finish_reason: str | None = None) -> bytes:
    """One event of a streamed answer."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish_reason}
    return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def completion(content: str) -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}
    return json.dumps({"model": "parrot-1", "choices": [choice], "usage": usage})


@contextmanager
def serving(model: ModelServer) -> Iterator[ModelServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model.requests.append(Asked(self.path, dict(self.headers), body))
            if model.silent:
                model.over.wait()
                return
            self.send_response(model.status)
            for name, value in model.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if body.get("stream") and model.status == 200:
                words = [event(f"{word} ") for word in model.content.split()] + [event("", "stop"), DONE]
                for each in words if model.events is None else model.events:
                    self.wfile.write(each)
                    self.wfile.flush()
            else:
                answer = completion(model.content) if model.payload is None else model.payload
                self.wfile.write(answer.encode())

        def log_message(self, *_: object) -> None:
            """Stays quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        model.url = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield model
        finally:
            model.over.set()
            server.shutdown()
            thread.join()
