"""Where an assessment is kept: one JSON file, in which a period is locked, its scores archived and published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Archive:
    """The file. Each change is made at most once: who asks again finds it made."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, Any]:
        if not self.file.exists():
            return {
                "locked_by": None,
                "scores": {"ranking": "of last year"},
                "archived": {},
                "published": None,
            }
        found: dict[str, Any] = json.loads(self.file.read_text("utf-8"))
        return found

    def change(self, **fields: Any) -> None:
        draft = self.file.with_suffix(".new")
        draft.write_text(json.dumps({**self.read(), **fields}, indent=1), "utf-8")
        draft.replace(self.file)  # whole or not at all

    def lock(self, owner: str) -> None:
        holder = self.read()["locked_by"]
        if holder not in (None, owner):
            raise RuntimeError(f"the period is locked by {holder}")
        self.change(locked_by=owner)

    def unlock(self, owner: str) -> None:
        if self.read()["locked_by"] == owner:
            self.change(locked_by=None)
