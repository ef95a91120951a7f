"""SQL in files: each statement stands under a line `-- name: what it does` and is loaded by that name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

_HEAD: Final = re.compile(r"^-- ([a-z][a-z0-9_]*): .*$", re.MULTILINE)


def load_queries(file: Path) -> Mapping[str, str]:
    """Return the statements of a file by name; text before the first name is a comment."""
    parts = _HEAD.split(file.read_text(encoding="utf-8"))
    names, statements = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file} has two statements of one name")
    return MappingProxyType(dict(zip(names, (text.strip().rstrip(";") for text in statements), strict=True)))
