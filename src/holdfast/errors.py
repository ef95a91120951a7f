"""The tree of errors, ordered by who must act.

Each class has a stable `code` (used by the command line, HTTP and pages) and each instance a `fix`: one sentence
that says what to do. The first line of a class's docstring is its default message.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

__all__ = [
    "Cancelled",
    "ConflictError",
    "DefinitionError",
    "HoldfastError",
    "InvalidStatus",
    "InvalidTransition",
    "NondeterminismError",
    "PayloadRejected",
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


class ConflictError(HoldfastError):
    """Another holder has the run; the driver gives it up."""

    code = "conflict"


class Cancelled(asyncio.CancelledError):
    """Raised inside a step whose run is being cancelled; `except Exception` does not swallow it."""
