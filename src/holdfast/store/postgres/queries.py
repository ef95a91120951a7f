"""The statements of `queries.sql`, by name, as they go over the wire."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from holdfast.store.sql import load_queries

SQL: Final = {
    name: text.encode() for name, text in load_queries(Path(__file__).with_name("queries.sql")).items()
}

_CALLS: Final = (
    *("advance", "open", "open_children", "consume", "withdraw", "send", "dequeue", "enqueue", "deliver"),
    *("take_up", "claim_run", "move_due", "ready"),
)

NAMES: Final = {name: b"holdfast_" + hashlib.sha256(SQL[name]).hexdigest()[:16].encode() for name in _CALLS}
"""Names of statements that the server may keep prepared, by their texts.

They are hot, and mere calls of functions: parsing and planning one takes longer than some of them run, and a plan that
knows no parameters is as good as one that does.
"""
