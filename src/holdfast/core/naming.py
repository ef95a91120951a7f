"""Names of what runs as a step: readers tell stages from waits and inner calls by them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from holdfast.core.program import END, START
from holdfast.errors import DefinitionError
from holdfast.model.ids import COMPENSATION

RESERVED: Final = ("timer:", "signal:", "run:", COMPENSATION)
"""How the ids of waits begin, of hooks and of compensations; a reader tells them from stages of the pattern by that."""


@lru_cache(maxsize=4096)
def check_step_name(noun: str, name: str) -> None:
    """Raise DefinitionError when `name` cannot be that of a `noun`, such as "node"."""
    if not name.strip():
        raise DefinitionError(f"a {noun}'s name is empty: {name!r}", fix=f"Give each {noun} a name.")
    if name in (START, END):
        raise DefinitionError(
            f"a {noun} cannot be named {name!r}", fix="START and END stand for the run's ends."
        )
    if "#" in name or not name.isprintable() or name.startswith(RESERVED):
        raise DefinitionError(
            f"{noun} {name!r}: a name has no # and no control characters, and does not begin with "
            f"{', '.join(RESERVED)}",
            fix="Choose another name.",
        )
