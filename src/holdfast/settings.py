"""Where a deployment's settings come from: arguments, then `HOLDFAST_*` variables, then defaults."""

from __future__ import annotations

import os
from typing import Final

DEFAULT_URL: Final = "sqlite:///holdfast.db"


def store_url(given: str | None) -> str:
    """Return the store's URL: the given one, else `$HOLDFAST_URL`, else a file in the working directory."""
    return given or os.environ.get("HOLDFAST_URL") or DEFAULT_URL
