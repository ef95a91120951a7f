"""What an error means to the command line: its exit code, its text, and what to do."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from holdfast.errors import (
    DefinitionError,
    HoldfastError,
    RequestError,
    RunError,
    RunNotFound,
    StoreError,
    WorkflowNotFound,
)

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2
NOT_FOUND: Final = 3
STORE: Final = 4
INTERRUPTED: Final = 130
READER_GONE: Final = 141
"""What a shell says of a program that the signal of a closed pipe ended."""


class UsageError(RequestError):
    """The command line is not understood."""

    code = "wrong_use"


class OutputFailed(UsageError):
    """Standard output cannot be written."""

    code = "output_failed"
    default_fix = "Write to where there is room, or to /dev/null."


class ModuleNotThere(RequestError, LookupError):
    """There is no such module."""

    code = "module_not_found"


class DatabaseMissing(StoreError):
    """There is no database yet."""

    code = "database_missing"
    default_fix = "Start a run first (holdfast run MODULE:WORKFLOW), or give --url or $HOLDFAST_URL."


class RunNotEnded(RunError):
    """The run has not ended, and this command leaves it."""

    code = "run_not_ended"


class Interrupted(BaseException):
    """Somebody pressed Ctrl-C, or the process was asked to end."""


def exit_code(error: BaseException) -> int:
    """Return the exit code that tells of this error."""
    match error:
        case Interrupted() | KeyboardInterrupt() | asyncio.CancelledError():
            return INTERRUPTED
        case RunNotFound() | WorkflowNotFound() | ModuleNotThere():
            return NOT_FOUND
        case StoreError():
            return STORE
        case RunError():
            return FAILED
        case RequestError() | DefinitionError():
            return WRONG_USE
        case _:
            return FAILED


def explain(error: BaseException) -> tuple[str, str, str]:
    """Return the code, the message and the fix of an error."""
    if isinstance(error, HoldfastError):
        return error.code, error.message, error.fix
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return "internal_error", message, "Run it again with --traceback; if that does not tell, report it."


def as_json(error: BaseException) -> str:
    """Return the error as the JSON document for stderr."""
    code, message, fix = explain(error)
    return json.dumps({"error": {"code": code, "message": message, "fix": fix}}, ensure_ascii=False)
