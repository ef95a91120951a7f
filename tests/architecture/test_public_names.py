"""What users may import: few names at the top, each one documented."""

from __future__ import annotations

import dataclasses
import importlib
import inspect

import pytest

import holdfast

TOP_LEVEL_NAMES = 60
SUBMODULES = ["agents", "dags", "errors", "machines", "predicates", "profiles", "resilience", "testing"]
MODULES = ["holdfast", *(f"holdfast.{name}" for name in SUBMODULES)]


def test_the_top_level_is_small() -> None:
    assert len(holdfast.__all__) <= TOP_LEVEL_NAMES


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_exists_and_is_documented(module: str) -> None:
    public = importlib.import_module(module)
    assert public.__all__, "a public module lists its names"
    assert [name for name in public.__all__ if not is_documented(getattr(public, name))] == []


def is_documented(thing: object) -> bool:
    """Whether someone wrote a docstring for it; values such as START are documented where they are used."""
    if inspect.isclass(thing):
        written = vars(thing).get("__doc__")
        generated = dataclasses.is_dataclass(thing) and str(written).startswith(f"{thing.__name__}(")
        return bool(written) and not generated
    if inspect.ismodule(thing) or callable(thing):
        return bool(inspect.getdoc(thing))
    return True
