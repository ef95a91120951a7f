"""The items of a step that runs once for each: chosen once, when the step is wanted, and kept in the journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from holdfast.core.work import Blobs
from holdfast.model import facts
from holdfast.model.state import split_large
from holdfast.model.values import encode
from holdfast.patterns.saga.actions import Action
from holdfast.patterns.saga.definition import SagaStep
from holdfast.patterns.saga.folding import FOREACH
from holdfast.patterns.saga.work import Known


def chosen_items(
    step: SagaStep, known: Known, blobs: Blobs
) -> tuple[facts.EdgeTried, tuple[msgspec.Raw, ...]]:
    """Return the decision for which items a step runs, and the items, encoded; what is wrong is a decision, too."""
    try:
        items = [
            encode(item, f"item {n} of step {step.name!r}") for n, item in enumerate(_items(step, known))
        ]
    except Exception as error:  # noqa: BLE001 - user code: whatever it raises fails the step
        why = facts.readable(f"the items of step {step.name!r}: {type(error).__name__}: {error}")
        return facts.EdgeTried(step.name, FOREACH, result=False, reason=why), ()
    small, large = split_large({str(n): item for n, item in enumerate(items)})
    blobs.add(large)
    counted = f"{len(items)} item{'' if len(items) == 1 else 's'}"
    return facts.EdgeTried(step.name, FOREACH, reason=counted, count=len(items)), tuple(small.values())


def _items(step: SagaStep, known: Known) -> Iterable[Any]:
    if isinstance(step.foreach, Action):
        found: Any = step.foreach.call(known)
    else:
        given = {**known["params"](), **known["results"]()}
        if step.foreach not in given:
            raise LookupError(f"neither a step nor a param is called {step.foreach!r}")
        found = given[step.foreach]
    if isinstance(found, str | bytes | Mapping) or not isinstance(found, Iterable):
        raise TypeError(f"a list is wanted, not {type(found).__name__}")
    return found
