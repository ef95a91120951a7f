"""Child runs: a step of kind `run` is another run, with its own journal, that its parent started and waits for.

A child's id follows from its parent's and the step, so a step has one child, whatever went wrong: an attempt after the
first takes up the same one where it failed. What the parent asks of it and how it ended are arrivals, written in the
transaction of the commit that says so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.core.events import resolved
from holdfast.core.ledger import FORKED, Ledger
from holdfast.model import facts
from holdfast.model.commit import Deliver
from holdfast.model.ids import LONGEST_RUN_ID, RunId, StepId, split_step

MOST_ANCESTORS: Final = 32
"""How deep runs may be nested: a workflow that starts itself for ever is stopped by that."""

_SPEAKING: Final = re.compile(r"[A-Za-z0-9_.:@+=-]+")


def child_id(parent: RunId, step: StepId) -> RunId:
    """Return the id of the run that a step is: `order-7/review~1`. Nobody else can take it, for the sake of its `~`."""
    name, iteration = split_step(step)
    if not _SPEAKING.fullmatch(name):
        name = _digest(name)
    id_ = f"{parent}/{name}~{iteration}"
    if len(id_) > LONGEST_RUN_ID:
        id_ = f"{_digest(f'{parent}/{step}')}~{iteration}"
    return id_


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def is_child(run: RunId) -> bool:
    """Tell whether the id is that of a child run."""
    return "~" in run


def told_parent(fact: Any, ledger: Ledger, blobs: Mapping[str, bytes]) -> Sequence[Deliver]:
    """Return how a child's end reaches its parent; nothing for a run that has none.

    The parent knows which attempt that was, and has the value whole.
    """
    step = ledger.parent_step
    if not step:
        return ()
    end: facts.Fact
    match fact:
        case facts.RunCompleted():
            end = facts.StepCompleted(step=step, attempt=0, data=resolved(fact.data, blobs))
        case facts.RunFailed():
            end = facts.StepFailed(step=step, attempt=0, error=fact.error)
        case _:
            end = facts.StepCancelled(step=step, attempt=0)
    key = f"child:{step}:{ledger.position}"
    return (Deliver(key=key, fact=facts.Journal.encode_one(end), run=ledger.parent),)


def asked_of_children(fact: facts.Fact, ledger: Ledger, run: RunId) -> list[Deliver]:
    """Return what a run's pause, resume or the cancel of a step asks of its children that have not ended."""
    match fact:
        case facts.StepCancelRequested():
            opened = ledger.open.get(fact.step)
            if opened is None or opened.kind != "run":
                return []
            key = f"parent:cancel:{ledger.position}"
            return [_ask(run, fact.step, facts.CancelRequested(reason="its parent asked for it", key=key))]
        case facts.RunPaused():
            key = f"parent:pause:{ledger.position}"
            asked: Any = facts.RunPaused(reason="its parent is paused", key=key)
        case facts.RunResumed():
            asked = facts.RunResumed(key=f"parent:resume:{ledger.position}", unpauses=True)
        case _:
            return []
    anew = {step for step, _ in getattr(fact, "reopened", ())}
    children = [step.step for step in ledger.open.values() if step.kind == "run" and step.step not in anew]
    return [_ask(run, step, asked) for step in children]


def _ask(run: RunId, step: StepId, asked: Any) -> Deliver:
    return Deliver(key=asked.key, fact=facts.Journal.encode_one(asked), run=child_id(run, step))


def taken_up(run: RunId, step: StepId, attempt: int, due: int, deadline: int) -> Deliver:
    """Return what has a failed child go on for the next attempt of its step, not before `due`."""
    asked = facts.RunResumed(key=f"parent:attempt:{attempt}", due=due, deadline=deadline)
    return Deliver(key=asked.key, fact=facts.Journal.encode_one(asked), run=child_id(run, step), reopens=True)


def unborn_attempts(ledger: Ledger) -> list[facts.StepRetried]:
    """Return the attempts of steps that were open when their run was forked: they get children of their own."""
    return [
        facts.StepRetried(step=step.step, attempt=step.attempt + 1, reason=FORKED)
        for step in ledger.open.values()
        if not step.born
    ]
