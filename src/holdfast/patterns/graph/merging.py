"""The merge of a round: the results of its steps become one state, in an order that does not depend on who ended first.

Values stay encoded per key; one under a reducer stays decoded until somebody reads it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from holdfast.errors import PayloadRejected
from holdfast.model import facts
from holdfast.model.ids import StepId
from holdfast.model.values import encode, unpack

Reducer = Callable[[Any, Any], Any]


class Reduced:
    """A value under a reducer: decoded, and encoded at most once, when it is read."""

    __slots__ = ("_raw", "value")

    def __init__(self, value: Any) -> None:
        """Keep the decoded value, which the fold may extend in place in the next round."""
        self.value = value
        self._raw: msgspec.Raw | None = None

    def raw(self) -> msgspec.Raw:
        """Return the encoded value."""
        if self._raw is None:
            self._raw = encode(self.value)
        return self._raw


class Values(dict[str, Any]):
    """A state with reduced values: a key that is read is encoded then."""

    def __getitem__(self, key: str) -> Any:
        """Return the encoded value; `get` gives what is held."""
        value = super().__getitem__(key)
        return value.raw() if type(value) is Reduced else value


def raws(values: Mapping[str, Any]) -> dict[str, msgspec.Raw]:
    """Return a state with every value encoded."""
    return {key: value.raw() if type(value) is Reduced else value for key, value in values.items()}


def merged(
    before: Mapping[str, Any],
    results: Mapping[StepId, facts.StepCompleted],
    reducers: Mapping[str, Reducer],
    decode: Callable[[msgspec.Raw], Any],
) -> dict[str, Any]:
    """Return the state after a round of these results, in their order. Raises MergeFault and leaves `before` alone."""
    merge = _Merge(Values(before) if reducers else dict(before), reducers, decode)
    try:
        for step, result in results.items():
            merge.write(step, result)
        merge.check()
    except MergeFault:
        merge.undo()
        raise
    return merge.state


class _Merge:
    """One merge under way: who wrote which key, and which lists of the state before were extended, from what length."""

    def __init__(
        self, state: dict[str, Any], reducers: Mapping[str, Reducer], decode: Callable[[msgspec.Raw], Any]
    ) -> None:
        self.state = state
        self._reducers = reducers
        self._decode = decode
        self._writers: dict[str, StepId] = {}
        self._reduced: dict[str, StepId] = {}
        self._grown: list[tuple[list[Any], int]] = []

    def write(self, step: StepId, result: facts.StepCompleted) -> None:
        """Write a step's changes into the state."""
        for key, raw in unpack(result.data).items():
            reducer = self._reducers.get(key)
            if reducer is None:
                self._claim(key, step)
                self.state[key] = raw
            else:
                self.state[key] = self._reduce(step, key, reducer, raw)
                self._reduced[key] = step
        for key in result.gone:
            self._claim(key, step)
            self.state.pop(key, None)

    def _claim(self, key: str, step: StepId) -> None:
        if self._writers.setdefault(key, step) != step:
            raise _conflict(key, self._writers[key], step)

    def check(self) -> None:
        """Raise what only shows when all have written."""
        for key, step in self._reduced.items():
            if key in self._writers:  # of the reduced keys only those that were deleted
                raise _torn(key, self._writers[key], step)
            value = self.state.get(key)
            # A sum of stored lists can be stored; anything else is encoded now, lest it fails where nobody expects it.
            if type(value) is Reduced and not (
                self._reducers[key] is operator.add and type(value.value) is list
            ):
                _check_reduced(key, value, step)

    def undo(self) -> None:
        """Leave the state before the round as it was."""
        for values, length in self._grown:
            del values[length:]

    def _reduce(self, step: StepId, key: str, reducer: Reducer, raw: msgspec.Raw) -> Reduced:
        value, old = self._decode(raw), self.state.get(key)
        if old is None:
            return Reduced(value)
        if not isinstance(old, Reduced):
            old = Reduced(self._decode(old))
        if reducer is operator.add and type(old.value) is list and type(value) is list:
            self._grown.append((old.value, len(old.value)))
            old.value += value  # the fold owns the list; `a + b` for each arrival would be quadratic
            return Reduced(old.value)
        try:
            return Reduced(reducer(old.value, value))
        except BaseException as error:
            message = f"the reducer of {key!r} raised {type(error).__name__}: {error} (result of {step})"
            raise MergeFault("reducer_failed", facts.readable(message), step) from error


class MergeFault(Exception):
    """The round cannot be merged: the run fails, naming key and step."""

    def __init__(self, code: str, message: str, step: StepId) -> None:
        """Keep the error as it will be recorded."""
        super().__init__(message)
        self.info = facts.ErrorInfo(code=code, message=message, type="MergeFault", step=step)


def _check_reduced(key: str, value: Reduced, step: StepId) -> None:
    try:
        value.raw()
    except PayloadRejected as error:
        message = f"the reducer of {key!r} returned what cannot be stored: {error} (result of {step})"
        raise MergeFault("reducer_failed", message, step) from error


def _conflict(key: str, first: StepId, second: StepId) -> MergeFault:
    message = (
        f"{first} and {second} both wrote {key!r} in one round; declare a reducer for it in the schema: "
        f"Annotated[list, operator.add]"
    )
    return MergeFault("write_conflict", message, second)


def _torn(key: str, deleter: StepId, writer: StepId) -> MergeFault:
    message = f"{deleter} deleted {key!r} and {writer} wrote it in one round; do one after the other"
    return MergeFault("write_conflict", message, max(deleter, writer))
