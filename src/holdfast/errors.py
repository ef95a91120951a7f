"""The tree of errors, ordered by who must act.

Each class has a stable `code` (used by the command line, HTTP and pages) and each instance a `fix`: one sentence
that says what to do. The first line of a class's docstring is its default message.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, ClassVar

__all__ = [
    "ActionFailed",
    "AgentError",
    "AgentNotFound",
    "AgentRefused",
    "AgentUnavailable",
    "BulkheadFull",
    "Cancelled",
    "ChainError",
    "CircuitOpen",
    "ConditionalError",
    "ConflictError",
    "DefinitionError",
    "HoldfastError",
    "InvalidStatus",
    "InvalidTransition",
    "NondeterminismError",
    "ParallelError",
    "PayloadRejected",
    "RateLimited",
    "RedriveActive",
    "Refused",
    "RequestError",
    "RunCancelled",
    "RunConflict",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "RunTimedOut",
    "SchemaTooNew",
    "SchemaTooOld",
    "SecretsNeedWorker",
    "SignalTimeout",
    "StoreDamaged",
    "StoreError",
    "StoreUnavailable",
    "TaskError",
    "WorkflowNotFound",
]


class HoldfastError(Exception):
    """Something went wrong in Holdfast."""

    code: ClassVar[str] = "holdfast_error"
    default_fix: ClassVar[str] = ""

    def __init__(self, message: str | None = None, *, fix: str | None = None) -> None:
        """Keep the message and the fix; both fall back to the texts of the class."""
        self.message: str = message or (type(self).__doc__ or "").partition("\n")[0]
        self.fix: str = fix if fix is not None else self.default_fix
        super().__init__(self.message)


class DefinitionError(HoldfastError):
    """The workflow's definition is wrong; its author must act."""

    code = "definition_error"


class NondeterminismError(DefinitionError):
    """Today's code does not fit the journal of the run."""

    code = "nondeterminism"
    default_fix = "Restore the code that the run was started with, or cancel the run and start a new one."


class RequestError(HoldfastError):
    """The request cannot be carried out; the caller must act."""

    code = "bad_request"


class WorkflowNotFound(RequestError, LookupError):
    """No workflow of that name is registered here, and no worker lists it."""

    code = "workflow_not_found"


class RunNotFound(RequestError, LookupError):
    """There is no run with that id."""

    code = "run_not_found"
    default_fix = "List the runs with `holdfast runs`."


class RunConflict(RequestError):
    """A run with that id exists already, with another workflow or other params."""

    code = "run_conflict"


class InvalidStatus(RequestError):
    """The run's status does not allow that."""

    code = "invalid_status"


class InvalidTransition(RequestError):
    """The machine's state does not allow that event."""

    code = "invalid_transition"


class PayloadRejected(RequestError, ValueError):
    """The value cannot be accepted."""

    code = "payload_rejected"

    def __init__(self, message: str | None = None, *, field: str = "", fix: str | None = None) -> None:
        """Keep the name of the field that was refused."""
        super().__init__(message, fix=fix)
        self.field = field


class RedriveActive(RequestError):
    """Many dead letters are being redriven already."""

    code = "redrive_active"
    default_fix = "Wait until that has ended, or stop it."


class SecretsNeedWorker(RequestError):
    """This process runs no worker for that queue, so it cannot keep the run's secrets."""

    code = "secrets_need_worker"
    default_fix = "Start the run from a process with a worker, or give the workers a `secrets` provider."


class RunError(HoldfastError):
    """The run did not complete."""

    code = "run_error"


class RunFailed(RunError):
    """The run failed."""

    code = "run_failed"

    def __init__(
        self,
        message: str | None = None,
        *,
        run_id: str = "",
        stage: str = "",
        attempt: int = 0,
        error: Any = None,
        state: dict[str, Any] | None = None,
        path: tuple[str, ...] = (),
        fix: str | None = None,
    ) -> None:
        """Keep where it failed, with which attempt, the state before and the nodes that ran."""
        super().__init__(message, fix=fix)
        self.run_id = run_id
        self.stage = stage
        self.attempt = attempt
        self.error = error
        self.state = state
        self.path = path

    @property
    def results(self) -> dict[str, Any]:
        """What had finished: of a DAG the results of its tasks by name."""
        return dict(self.state or {})


class ActionFailed(RunError):
    """An action of the transition failed; the machine is in the state it was in before."""

    code = "action_failed"
    default_fix = "Mend the cause, then send the event again."

    def __init__(self, message: str | None = None, *, error: Any = None, state: Any = "") -> None:
        """Keep the action's error, and where the machine is."""
        super().__init__(message)
        self.error = error
        self.state = state


class RunCancelled(RunError):
    """The run was cancelled."""

    code = "run_cancelled"


class RunTimedOut(RunError, TimeoutError):
    """The run took longer than its timeout."""

    code = "run_timed_out"


class SignalTimeout(RunError, TimeoutError):
    """The signal did not arrive in time."""

    code = "signal_timeout"


class StoreError(HoldfastError):
    """The store cannot serve; its operator must act."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The store cannot be reached."""

    code = "store_unavailable"


class StoreDamaged(StoreUnavailable):
    """The store's content is damaged; trying again does not help."""

    code = "store_damaged"
    default_fix = "Restore it from a backup; `holdfast db check` tells what is wrong."


class SchemaTooNew(StoreError):
    """The database was written by a newer Holdfast."""

    code = "schema_too_new"
    default_fix = "Upgrade Holdfast: `pip install --upgrade holdfast`."


class SchemaTooOld(StoreError):
    """The database was written by an older Holdfast and has not been upgraded."""

    code = "schema_too_old"
    default_fix = "Run `holdfast db upgrade`."


class AgentNotFound(RequestError, LookupError):
    """No agent of that name is registered here."""

    code = "agent_not_found"


class AgentError(HoldfastError):
    """An agent gave no answer."""

    code = "agent_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        fix: str | None = None,
    ) -> None:
        """Keep the HTTP status, and after how many seconds the agent says that it can be asked again."""
        super().__init__(message, fix=fix)
        self.status = status
        self.retry_after = retry_after


class AgentRefused(AgentError):
    """The agent refused the request, or its answer is of no use; asking again in the same way will not help."""

    code = "agent_refused"


class AgentUnavailable(AgentError):
    """The agent could not be asked just now."""

    code = "agent_unavailable"
    default_fix = "Ask again later: RetryPolicy(retry_on=(AgentUnavailable,)) does so."


class Refused(HoldfastError):
    """The call was not made, to guard what it would call."""

    code = "refused"

    def __init__(
        self, message: str | None = None, *, retry_after: float = 0.0, fix: str | None = None
    ) -> None:
        """Keep after how many seconds it can be tried again."""
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0].rstrip("."), fix=fix)
        self.retry_after = retry_after


class CircuitOpen(Refused):
    """Circuit breaker is open."""

    code = "circuit_open"
    default_fix = "Wait until `retry_after` seconds are over; what it guards fails too often just now."


class RateLimited(Refused):
    """The rate limit is reached."""

    code = "rate_limited"
    default_fix = "Wait until `retry_after` seconds are over, or raise the limit."


class BulkheadFull(Refused):
    """The bulkhead is full."""

    code = "bulkhead_full"
    default_fix = "Wait until a call has ended, or raise the limit."


class ConflictError(HoldfastError):
    """Another holder has the run; the driver gives it up."""

    code = "conflict"


class Cancelled(asyncio.CancelledError):
    """Raised inside a step whose run is being cancelled; `except Exception` does not swallow it."""


class TaskError(HoldfastError):
    """One item could not be processed; `error` is what was raised for it."""

    code = "task_failed"

    def __init__(self, index: int, item: Any, error: BaseException) -> None:
        """Keep the item, its place in the input, counted from 0, and what was raised."""
        super().__init__(f"item {index}: {_text(error)}")
        self.index = index
        self.item = item
        self.error = error
        self.__cause__ = error


class ParallelError(HoldfastError):
    """Items processed in parallel failed; `result` has what was done."""

    code = "parallel_failed"

    def __init__(self, result: Any) -> None:
        """Keep the partial result; the message counts its errors by their texts."""
        errors: tuple[TaskError, ...] = tuple(result.errors)
        super().__init__(_counted(errors))
        self.result = result
        self.errors = errors
        self.__cause__ = errors[0].error if errors else None


class ChainError(HoldfastError):
    """A step of a chain failed; `state` is what the steps before it made."""

    code = "chain_failed"

    def __init__(self, step_index: int, item: Any, state: Any, error: BaseException) -> None:
        """Keep which step failed, counted from 0, with which item, on which state."""
        super().__init__(f"chain failed at step {step_index}: {_text(error)}")
        self.step_index = step_index
        self.item = item
        self.state = state
        self.error = error
        self.__cause__ = error


class ConditionalError(HoldfastError):
    """A choice failed; `state` is the one it was given, `route` what was chosen, empty before that."""

    code = "conditional_failed"

    def __init__(self, route: str, state: Any, error: BaseException) -> None:
        """Keep the route and the state."""
        where = f" on route {route!r}" if route else ""
        super().__init__(f"conditional failed{where}: {_text(error)}")
        self.route = route
        self.state = state
        self.error = error
        self.__cause__ = error


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _counted(errors: tuple[TaskError, ...]) -> str:
    if len(errors) == 1:
        return errors[0].message
    counts = Counter(_text(each.error) for each in errors)
    kinds = "error type" if len(counts) == 1 else "error types"
    told = ", ".join(f"'{text}' ({n} item{'s' if n > 1 else ''})" for text, n in counts.most_common())
    return f"{len(errors)} items failed with {len(counts)} {kinds}: {told}"
