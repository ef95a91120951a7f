"""DBOS opened for a while, quietly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from dbos import DBOS, DBOSConfig

T = TypeVar("T")


@contextlib.contextmanager
def launched(url: str, define: Callable[[], T]) -> Iterator[T]:
    """Launch DBOS with the workflows that `define` makes, and yield what it returned."""
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "log_level": "ERROR",
        "console_log_level": "ERROR",
        "enable_otlp": False,
    }
    DBOS(config=config)
    try:
        defined = define()
        DBOS.launch()
        yield defined
    finally:
        DBOS.destroy(destroy_registry=True)
