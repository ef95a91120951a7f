"""The definition of a saga: its steps in groups, and the rules that they must keep."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import msgspec

from holdfast.core.retries import RetryPolicy
from holdfast.errors import DefinitionError
from holdfast.patterns.saga.actions import Action, Nested

Kind = Literal["compensatable", "pivot", "retriable"]
Recovery = Literal["backward", "forward", "savepoint"]
OnFailure = Literal["continue", "stop"]

KINDS: Final = ("compensatable", "pivot", "retriable")
RECOVERIES: Final = ("backward", "forward", "savepoint")
ON_FAILURE: Final = ("continue", "stop")

COMPENSATION_RETRY: Final = RetryPolicy()
"""How a compensation is tried again when its step says nothing: three times."""


class SagaStep(msgspec.Struct, frozen=True):
    """One step: what it does, what takes that back, and where the saga stands with it.

    A pivot is the point of no return: the steps before it can be undone, those after it are tried until they succeed.
    Steps of one `parallel` group run at once; one with `foreach` runs once for each item, all at once. `savepoint` is
    how often in all the saga may begin at this step, 0 when it is none.
    """

    name: str
    forward: Action | Nested
    compensation: Action | Nested | None = None
    kind: Kind = "compensatable"
    parallel: str | None = None
    foreach: Any = None
    savepoint: int = 0


class Definition:
    """A saga's steps as runs use them; does not change."""

    __slots__ = ("by_name", "groups", "hash", "name", "numbers", "on_failure", "pivot", "recovery", "retries")

    def __init__(
        self, name: str, steps: Sequence[SagaStep], recovery: Recovery, on_failure: OnFailure
    ) -> None:
        """Group the steps; raises DefinitionError when they are no saga."""
        self.name: Final = name
        self.recovery: Final = recovery
        self.on_failure: Final = on_failure
        self.groups: Final = _grouped(steps)
        self.by_name: Final = {step.name: step for step in steps}
        self.numbers: Final = {step.name: n for n, group in enumerate(self.groups) for step in group}
        _check_kinds(name, steps)
        self.pivot: Final = _first_shielded(self.groups)
        self.retries: Final = {step.name: self._retry(step) for step in steps}
        self.hash: Final = self._hash()

    def shields(self, step: SagaStep) -> bool:
        """Tell whether a step, once begun, must not be given up: it is the point of no return, or after it."""
        return self.numbers[step.name] >= self.pivot

    def is_past(self, number: int) -> bool:
        """Tell whether a group comes after the point of no return: its steps can only be tried again."""
        return number >= self.pivot and self.groups[number][0].kind == "retriable"

    def savepoints(self, number: int) -> list[tuple[int, int]]:
        """Return the groups up to one at which the saga may begin again, the nearest first, with how often in all."""
        firsts = ((n, self.groups[n][0].savepoint) for n in range(number, -1, -1))
        return [(n, attempts) for n, attempts in firsts if attempts]

    def _retry(self, step: SagaStep) -> RetryPolicy | None:
        """Return when a step is tried again; where the only way is forward, until it succeeds."""
        given = step.forward.retry
        if self.recovery != "forward" and step.kind != "retriable":
            return given
        return replace(given or RetryPolicy(), attempts=sys.maxsize)

    def _hash(self) -> str:
        shape = [
            [
                (
                    *(step.name, step.kind, step.compensation is not None, step.forward.kind),
                    *(step.foreach is not None, step.savepoint, _nested(step)),
                )
                for step in group
            ]
            for group in self.groups
        ]
        told = msgspec.json.encode((self.name, self.recovery, shape))
        return hashlib.blake2b(told, digest_size=12).hexdigest()


def _nested(step: SagaStep) -> tuple[str, ...]:
    """Return the workflows within a step, by name."""
    given = [action.workflow for action in (step.forward, step.compensation) if isinstance(action, Nested)]
    return tuple(each if isinstance(each, str) else str(each.name) for each in given)


def check_savepoints(where: str, recovery: Recovery, steps: Sequence[SagaStep]) -> None:
    """Refuse savepoints that nobody uses, and a recovery to savepoints without one."""
    has_some = any(step.savepoint for step in steps)
    if recovery == "savepoint" and not has_some:
        raise DefinitionError(
            f"{where} shall go back to a savepoint and has none",
            fix="Call saga.savepoint() before the step that it shall begin again at.",
        )
    if has_some and recovery != "savepoint":
        raise DefinitionError(
            f"{where} has a savepoint, which recovery={recovery!r} does not use",
            fix='Make it with recovery="savepoint".',
        )


def _grouped(steps: Sequence[SagaStep]) -> tuple[tuple[SagaStep, ...], ...]:
    """Return the steps in groups that run at once: neighbours with one label, any other step by itself."""
    groups: list[list[SagaStep]] = []
    for step in steps:
        joins = step.parallel is not None and not step.savepoint
        if joins and groups and groups[-1][0].parallel == step.parallel:
            groups[-1].append(step)
        else:
            groups.append([step])
    return tuple(map(tuple, groups))


def _first_shielded(groups: Sequence[Sequence[SagaStep]]) -> int:
    """Return the number of the group that begins what cannot be undone; behind the last one when there is none."""
    for number, group in enumerate(groups):
        if any(step.kind != "compensatable" for step in group):
            return number
    return len(groups)


def _check_kinds(name: str, steps: Sequence[SagaStep]) -> None:
    """Refuse any other order than compensatable, one pivot, retriable: a failure would have no way on."""
    where = f"saga {name!r}" if name else "the saga"
    pivots = [step.name for step in steps if step.kind == "pivot"]
    if len(pivots) > 1:
        raise DefinitionError(
            f"{where} has two pivots, {pivots[0]!r} and {pivots[1]!r}",
            fix="One step is the point of no return; make what follows it retriable.",
        )
    for group in _grouped(steps):
        kinds = {step.kind for step in group}
        if len(kinds) > 1 or (kinds == {"pivot"} and (len(group) > 1 or group[0].foreach is not None)):
            raise DefinitionError(
                f"{where}: step {group[-1].name!r} runs beside a pivot, or beside steps of another kind",
                fix="A pivot runs once and alone, and steps that run at once are all of one kind.",
            )
    latest: SagaStep | None = None
    for step in steps:
        if latest is not None and KINDS.index(step.kind) < KINDS.index(latest.kind):
            raise DefinitionError(
                f"{where}: step {step.name!r} is {step.kind}, but comes after {latest.name!r}, which is {latest.kind}",
                fix="After a pivot all steps are retriable: nothing before it can be undone any more.",
            )
        if latest is None or step.kind != latest.kind:
            latest = step
