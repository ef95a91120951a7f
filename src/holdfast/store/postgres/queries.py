"""The statements of `queries.sql`, by name, as they go over the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from holdfast.store.sql import load_queries

SQL: Final = {
    name: text.encode() for name, text in load_queries(Path(__file__).with_name("queries.sql")).items()
}
