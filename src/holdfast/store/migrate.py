"""Migrations: numbered `.sql` files that lead from any older schema to today's, and who may open which schema.

A file `0002_add_lanes.sql` begins with `-- min_code: 1`: the oldest schema number whose code can still work after it.
A database keeps (version, min_code) of each migration it had; code whose own number reaches the largest `min_code`
may open it. So a release that only adds can run beside the one before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from holdfast.errors import SchemaTooNew

_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_MIN_CODE: Final = re.compile(r"-- min_code: (\d+)\n")


class Migration(msgspec.Struct, frozen=True):
    """One file: its number, the oldest code that can work after it, and its statements."""

    version: int
    min_code: int
    script: str


def load_migrations(folder: Path) -> Sequence[Migration]:
    """Return the migrations of a folder in order; they are numbered from 1 without a gap."""
    found = []
    for file in folder.iterdir():
        if named := _NAME.fullmatch(file.name):
            script = file.read_text(encoding="utf-8")
            head = _MIN_CODE.match(script)
            if head is None:
                raise ValueError(f"{file.name} does not begin with `-- min_code: N`")
            found.append(Migration(int(named[1]), int(head[1]), script))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations in {folder} are not numbered 1, 2, 3, ...")
    return found


def pending(
    known: Sequence[Migration], applied: Sequence[tuple[int, int]], where: str
) -> Sequence[Migration]:
    """Return the migrations that a database with these (version, min_code) lacks. Raises SchemaTooNew."""
    code = known[-1].version
    needed = max((min_code for _, min_code in applied), default=0)
    if needed > code:
        raise SchemaTooNew(
            f"{where} has a schema for code {needed} and later; this is Holdfast with schema {code}",
        )
    newest = max((version for version, _ in applied), default=0)
    return [migration for migration in known if migration.version > newest]
