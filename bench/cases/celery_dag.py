"""A DAG on Celery with Redis: a server and a worker of their own on this machine; all tasks are sent, all results read.

Independent tasks and maps alone: a canvas with the edges of a DAG carries all that comes later in each message.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from celery import Celery, group
from redis import Redis
from redis.exceptions import RedisError

from bench.dags import SIZES, check, tasks_of, work
from bench.measure import case_parser, emit, median_seconds

PORT: Final = "BENCH_REDIS_PORT"
SETTINGS: Final = {"worker_prefetch_multiplier": 64, "worker_hijack_root_logger": False}
STARTS_WITHIN_SECONDS: Final = 60

app = Celery("bench")
url = f"redis://127.0.0.1:{os.environ.get(PORT, '0')}/0"
app.conf.update(broker_url=url, result_backend=url, **SETTINGS)


@app.task(name="add")
def add() -> int:
    return work()


@app.task(name="double")
def double(item: int) -> int:
    return 2 * item


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--shape", choices=("independent", "map"), required=True)
    parser.add_argument("--size", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    name, size = arguments.shape, arguments.size or SIZES[arguments.shape]
    with servers(arguments.directory):
        run(name, 3)
        repeats = 1 if arguments.quick else arguments.repeats
        seconds = median_seconds([run(name, size) for _ in range(repeats)])
    emit({"seconds": seconds, "us_per_task": seconds / tasks_of(name, size) * 1e6})


def run(name: str, size: int) -> float:
    signatures = [double.s(item) if name == "map" else add.s() for item in range(size)]
    begun = time.perf_counter()
    total = sum(group(signatures).apply_async().get(timeout=STARTS_WITHIN_SECONDS * 5))
    taken = time.perf_counter() - begun
    check(total, name, size)
    return taken


@contextlib.contextmanager
def servers(directory: Path) -> Iterator[None]:
    """Redis with its log, flushed each second (at each command it would be slower), and a worker of two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    app.conf.broker_url = app.conf.result_backend = f"redis://127.0.0.1:{port}/0"
    logged = ("--appendonly", "yes", "--save", "")
    redis = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", str(directory), *logged]
    worker = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "bench.cases.celery_dag",
        "worker",
        "-c",
        "2",
        "-l",
        "ERROR",
    ]
    with started(redis, {}), Redis(port=int(port)) as client:
        until_answered(client)
        with started(worker, {PORT: port}):
            yield


@contextlib.contextmanager
def started(command: list[str], variables: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=sys.stderr)
    try:
        yield
    finally:
        process.terminate()
        process.wait(STARTS_WITHIN_SECONDS)


def until_answered(client: Redis) -> None:
    end = time.monotonic() + STARTS_WITHIN_SECONDS
    while True:
        try:
            client.ping()
        except RedisError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    main()
