"""The gates of one loop: breakers, limits and bulkheads by their names, over rows of a store or of this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from holdfast.core.breaker import BreakerRow, CircuitBreaker, Ticket
from holdfast.core.limits import BudgetRow, Bulkhead, BulkheadRow, RateLimit, RateRow
from holdfast.core.policy import Policy
from holdfast.core.retries import RetryBudget
from holdfast.errors import DefinitionError, StoreError
from holdfast.model.ids import Instant, WorkerId, seconds
from holdfast.runtime.guards.breakers import BreakerGate
from holdfast.runtime.guards.budgets import BudgetGate
from holdfast.runtime.guards.bulkheads import BulkheadGate
from holdfast.runtime.guards.rates import RateGate
from holdfast.runtime.guards.rows import LimitRows, SharedRow

G = TypeVar("G", BreakerGate, RateGate, BulkheadGate, BudgetGate)


class Passage:
    """One call that was let through everything that guards it; to be closed when it has ended."""

    __slots__ = ("_breaker", "_bulkhead", "_ticket")

    def __init__(
        self, breaker: BreakerGate | None, ticket: Ticket | None, bulkhead: BulkheadGate | None
    ) -> None:
        """Keep what is to be told."""
        self._breaker = breaker
        self._ticket = ticket
        self._bulkhead = bulkhead

    def close(self, error: BaseException | None, *, known: bool = True) -> None:
        """Tell what the call came to; `known` is False when it neither returned nor raised."""
        known = known and (error is None or isinstance(error, Exception))
        if self._bulkhead is not None:
            self._bulkhead.leave()
        if self._breaker is not None and self._ticket is not None:
            self._breaker.tell(self._ticket, self._breaker.settings.result(error) if known else "unknown")


class Gates:
    """All gates of one loop over the same rows."""

    def __init__(
        self,
        rows: LimitRows,
        *,
        now: Callable[[], Instant],
        draw: Callable[[], float],
        holder: WorkerId,
        local: Gates | None,
    ) -> None:
        """`local` are those of this process alone, for limits without a name and a place; None: these are they."""
        self.draw: Final = draw
        self.now: Final = now
        self._rows = rows
        self._holder = holder
        self._local = local
        self._gates: dict[str, Any] = {}

    async def enter(self, policy: Policy, place: str, most: float | None = None) -> Passage:
        """Return when the call may be made. Raises CircuitOpen, RateLimited, BulkheadFull, StoreError.

        `most` bounds each wait, in seconds, beside what the limits say themselves.
        """
        breaker = None if policy.breaker is None else self.breaker(policy.breaker)
        ticket = None
        if breaker is not None:
            ticket = breaker.pass_at_once() or await breaker.pass_through()
        try:
            if policy.rate_limit is not None:
                rate = self.rate(policy.rate_limit, place)
                if not rate.pass_at_once():
                    await rate.pass_through(_least(policy.rate_limit.max_wait, most))
            bulkhead = None if policy.bulkhead is None else self.bulkhead(policy.bulkhead, place)
            if bulkhead is not None and not bulkhead.pass_at_once():
                await bulkhead.pass_through(_least(bulkhead.settings.max_wait, most))
        except BaseException:
            if breaker is not None and ticket is not None:
                breaker.tell(ticket, "unknown")
            raise
        return Passage(breaker, ticket, bulkhead)

    def enter_at_once(self, policy: Policy, place: str) -> Passage | None:
        """Return a passage if nothing is to be asked or waited for; else None, and `enter` is to be called."""
        if policy.rate_limit is not None:
            return None
        breaker = None if policy.breaker is None else self.breaker(policy.breaker)
        ticket = None if breaker is None else breaker.pass_at_once()
        if breaker is not None and ticket is None:
            return None
        bulkhead = None if policy.bulkhead is None else self.bulkhead(policy.bulkhead, place)
        if bulkhead is not None and not bulkhead.pass_at_once():
            return None  # a ticket of a closed breaker need not be given back
        return Passage(breaker, ticket, bulkhead)

    def breaker(self, settings: CircuitBreaker) -> BreakerGate:
        """Return the gate of a breaker; raises DefinitionError when one of its name has other settings."""
        name = f"breaker:{settings.name}"
        return self._gate(
            name, settings, lambda: BreakerGate(settings, SharedRow(self._rows, name, BreakerRow(), self.now))
        )

    def rate(self, settings: RateLimit, place: str) -> RateGate:
        """Return the gate of a rate limit; raises DefinitionError when one of its name has other settings."""
        if not (settings.name or place):
            return self._own.rate(settings, f"object {id(settings)}")
        name = f"rate:{settings.name or place}"
        lease = 0 if self._local is None else settings.lease
        return self._gate(
            name,
            settings,
            lambda: RateGate(settings, SharedRow(self._rows, name, RateRow(), self.now), lease),
        )

    def bulkhead(self, settings: Bulkhead, place: str) -> BulkheadGate:
        """Return the gate of a bulkhead; raises DefinitionError when one of its name has other settings."""
        if not (settings.name or place):
            return self._own.bulkhead(settings, f"object {id(settings)}")
        name = f"bulkhead:{settings.name or place}"
        return self._gate(
            name,
            settings,
            lambda: BulkheadGate(
                settings, SharedRow(self._rows, name, BulkheadRow(), self.now), self._holder, self.draw
            ),
        )

    @property
    def _own(self) -> Gates:
        return self if self._local is None else self._local

    def budget(self, settings: RetryBudget) -> BudgetGate:
        """Return the gate of a retry budget; raises DefinitionError when one of its name has other settings."""
        name = f"budget:{settings.name}"
        return self._gate(
            name, settings, lambda: BudgetGate(settings, SharedRow(self._rows, name, BudgetRow(), self.now))
        )

    def _gate(self, name: str, settings: Any, make: Callable[[], G]) -> G:
        gate: G | None = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = make()
        elif gate.settings is not settings:
            _check_same(name.partition(":")[2], gate.settings, settings)
        return gate

    async def close(self) -> None:
        """Tell what is not told yet, and give back what is held."""
        gates, self._gates = list(self._gates.values()), {}
        for gate in gates:
            if not isinstance(gate, RateGate):
                with contextlib.suppress(StoreError):
                    await gate.close()


def _check_same(name: str, first: Any, other: Any) -> None:
    if first != other:
        raise DefinitionError(
            f"{type(other).__name__} {name!r} is used with other settings: {other!r}, and {first!r} before",
            fix="Give it one name for each set of settings, or share one object.",
        )


def _least(first: Any, other: float | None) -> float | None:
    given = [seconds(wait) for wait in (first, other) if wait is not None]
    return min(given, default=None)
