"""What a choice lets run, by what it returned, and what a join that has enough needs no more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from msgspec import Raw

from holdfast.model.values import decode
from holdfast.patterns.dag.plan import Node, Plan

_FALSE: Final = frozenset({b"null", b"false", b"0", b'""', b"[]", b"{}", b"0.0"})


def kept_by(plan: Plan, node: Node, result: Raw) -> Collection[int]:
    """Return which of the tasks after a choice may run: those that it chose, and what comes after these."""
    if node.task.choice == "short_circuit":
        return () if bytes(result) in _FALSE else node.after
    value = decode(result)
    names = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    numbers = {plan.numbers[name] for name in names if name in plan.numbers}
    return numbers | plan.downstream(numbers)


def needed_by_none_but(plan: Plan, join: Node) -> set[int]:
    """Return the tasks before a join that nothing else comes after."""
    found = {join.number}
    stack = list(join.before)
    while stack:
        number = stack.pop()
        if number not in found and all(n in found for n in plan.nodes[number].after):
            found.add(number)
            stack += plan.nodes[number].before
    return found - {join.number}
