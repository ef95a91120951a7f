"""What guards do to attempts of durable steps: let them begin, or have them come again without losing a try."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from typing import TYPE_CHECKING, Final, cast

from holdfast.core.context import StepContext, current
from holdfast.core.kept_errors import error_info
from holdfast.core.limits import Bulkhead, RateLimit
from holdfast.core.policy import Hedge
from holdfast.core.retries import wait_before_retry
from holdfast.core.work import Guarded, Outcome, Work
from holdfast.errors import CircuitOpen, DefinitionError, RateLimited, Refused, StoreError
from holdfast.model import facts
from holdfast.model.ids import SECOND, microseconds, seconds
from holdfast.runtime.calling import call as call_anywhere
from holdfast.runtime.guards.hedging import hedged

if TYPE_CHECKING:
    from holdfast.runtime.attempt import Attempt
    from holdfast.runtime.guards.budgets import BudgetGate
    from holdfast.runtime.guards.gates import Gates

logger: Final = logging.getLogger("holdfast")

SHORT: Final = 0.25
"""Seconds that an attempt waits for a permit where it is; a longer wait is a row."""

AGAIN: Final = 0.5
"""Seconds after which the store is asked again when it was away."""


def begin(attempt: Attempt, gates: Gates, tasks: set[asyncio.Task[None]]) -> None:
    """Start the attempt as soon as its guards let it; at once, if nobody need be asked."""
    policy = attempt.work.policy
    assert policy is not None  # noqa: S101 - else nothing guards it
    try:
        if policy.retry is not None and policy.retry.budget is not None and not attempt.step.failures:
            gates.budget(policy.retry.budget).earn()
        passage = gates.enter_at_once(policy, _place(attempt))
    except DefinitionError as error:
        attempt.refuse(error, None)
        return
    if passage is not None:
        attempt.enter(passage)
        return
    task = attempt.loop.create_task(_enter(attempt, gates), name=f"guards of {attempt.step.step}")
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _place(attempt: Attempt) -> str:
    return f"{attempt.workflow}/{attempt.step.name}"


async def _enter(attempt: Attempt, gates: Gates) -> None:
    policy, place = attempt.work.policy, _place(attempt)
    assert policy is not None  # noqa: S101 - as above
    while not attempt.ended:
        try:
            passage = await gates.enter(policy, place, SHORT)
        except Refused as refused:
            attempt.refuse(refused, await _wait_for(attempt, gates, refused))
            return
        except StoreError as error:
            logger.warning("step %s waits for the store: %s", attempt.step.step, error)
            await asyncio.sleep(AGAIN)
        except Exception as error:  # noqa: BLE001 - the author's settings
            attempt.refuse(error, None)
            return
        else:
            attempt.enter(passage)
            return


async def _wait_for(attempt: Attempt, gates: Gates, refused: Refused) -> int | None:
    """Return after how many microseconds the step comes again; None: its limit says that it shall not wait so long.

    Steps that were refused together come again spread.
    """
    policy = attempt.work.policy
    assert policy is not None  # noqa: S101 - as above
    if isinstance(refused, CircuitOpen) and policy.breaker is not None:
        return microseconds(refused.retry_after) + round(policy.breaker.reset * gates.draw() / 2)
    limit: RateLimit | Bulkhead | None = (
        policy.rate_limit if isinstance(refused, RateLimited) else policy.bulkhead
    )
    if limit is None or limit.max_wait is not None:
        return None
    if isinstance(limit, RateLimit):
        with contextlib.suppress(StoreError):
            return microseconds(await gates.rate(limit, _place(attempt)).line_up())
    return round(SECOND * (1 + gates.draw()))


async def hedge(work: Work, settings: Hedge, context: StepContext) -> Outcome:
    """Return the outcome of the first call that ends well; each is of its own view of the state."""

    async def call() -> Outcome:
        own = copy.copy(work)
        return own.accept(await own.call(context), context)

    return await hedged(settings, call)


def refuse_when_hedged(attempt: Attempt) -> None:
    """Raise DefinitionError when the step's code may run twice at once: its questions and calls have one order."""
    policy = attempt.work.policy
    if policy is not None and policy.hedge is not None:
        raise DefinitionError(
            f"{attempt.step.name!r} is hedged; it can neither ask nor keep calls",
            fix="Give the hedge to a node of its own, or use Hedge.execute around one call.",
        )


def left_of(attempt: Attempt) -> float | None:
    """Return how many seconds the attempt may take: its own, and what is left for all tries together."""
    policy, limit = attempt.work.policy, attempt.work.timeout
    if policy is None or policy.total_timeout is None:
        return limit
    spent = (attempt.clock.now() - attempt.step.begun) / SECOND
    left = max(0.0, seconds(policy.total_timeout) - spent)
    return left if limit is None else min(limit, left)


def settle(attempt: Attempt, error: BaseException, info: facts.ErrorInfo) -> None:
    """End an attempt that failed: another one follows, or something stands in, or the step has failed."""
    wait = None if attempt.cancelling else _wait_after(attempt, error)
    retry, gates = attempt.work.retry, attempt.gates
    if wait is None:
        _give_up(attempt, error, info)
    elif retry is None or retry.budget is None or gates is None:
        attempt.retry(wait, info)
    else:
        attempt.leave_to(_ask_budget(attempt, gates.budget(retry.budget), error, info, wait))


def _wait_after(attempt: Attempt, error: BaseException) -> int | None:
    """Return the microseconds to wait before one more try, or None when there is none; draws."""
    step = attempt.step
    return wait_before_retry(
        *(attempt.work.retry, step.failures + 1, error, attempt.clock.draw()),
        last=step.due - step.since if step.failures and step.due else 0,
        now=attempt.clock.now(),
        begun=step.begun,
    )


async def _ask_budget(
    attempt: Attempt, budget: BudgetGate, error: BaseException, info: facts.ErrorInfo, wait: int
) -> None:
    """Try once more if the budget allows, however long the store is away."""
    try:
        while True:
            try:
                may = await budget.spend()
            except StoreError as away:
                logger.warning("step %s waits for the store: %s", attempt.step.step, away)
                await asyncio.sleep(AGAIN)
            else:
                break
    except asyncio.CancelledError:
        attempt.stopped()
        return
    if may:
        attempt.retry(wait, info)
    else:
        _give_up(attempt, error, info)


def _give_up(attempt: Attempt, error: BaseException, info: facts.ErrorInfo) -> None:
    policy = attempt.work.policy
    falls = policy is not None and policy.falls_back and isinstance(error, Exception)
    if falls and not attempt.cancelling and not attempt.ended:
        stand_in_for(attempt, cast("Exception", error), info)
    else:
        attempt.fail(info)


def stand_in_for(attempt: Attempt, error: Exception, info: facts.ErrorInfo) -> None:
    """Have something stand in for the result of an attempt."""
    attempt.leave_to(_fall_back(attempt, error, info))


async def _fall_back(attempt: Attempt, error: Exception, info: facts.ErrorInfo) -> None:
    """Have the step's fallback give its result; what it raises fails the step."""
    context = StepContext(attempt)
    current.set(context)
    try:
        policy, instead = attempt.work.policy, cast("Guarded", attempt.work).instead(error, context)
        is_called = policy is not None and callable(policy.fallback)
        value = await call_anywhere(attempt.threads, instead) if is_called else instead()
        outcome = attempt.work.accept(value, context)
    except asyncio.CancelledError:
        attempt.stopped()
    except Exception as raised:  # noqa: BLE001 - user code
        attempt.error = raised
        attempt.fail(error_info(raised, attempt.step, attempt.scrub))
    else:
        attempt.error = None
        attempt.complete(outcome, info)
