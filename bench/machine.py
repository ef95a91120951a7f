"""The machine that the figures come from: without it they mean nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any

PACKAGES = (
    "holdfast",
    "langgraph",
    "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-postgres",
    "dbos",
    "procrastinate",
    "pgqueuer",
    "prefect",
    "distributed",
    "celery",
    "transitions",
    "python-statemachine",
    "psycopg",
    "asyncpg",
    "msgspec",
)
FLUSHES = 200
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


def describe(directory: Path) -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "file_system": file_system(directory),
        "flush_ms": flush_ms(directory),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def flush_ms(directory: Path) -> float:
    """The median of a 4 KB append with its flush, in milliseconds."""
    path = directory / "flush"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(FLUSHES):
            begun = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    path.unlink()
    return 1000 * statistics.median(times)


def file_system(directory: Path) -> str:
    """The type of the file system that holds the directory; `unknown` where the system does not tell."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    found, longest = "unknown", -1
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split()
        if directory.resolve().is_relative_to(point) and len(point) > longest:
            found, longest = kind, len(point)
    return found


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
