"""Exceptions of user code as the journal keeps them: texts of bounded length, without secrets."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Final

from holdfast.core.ledger import OpenStep
from holdfast.core.retries import class_name
from holdfast.errors import HoldfastError
from holdfast.model import facts

MESSAGE_LIMIT: Final = 10_000
TRACEBACK_LIMIT: Final = 20_000


def error_info(error: BaseException, step: OpenStep, scrub: Callable[[str], str]) -> facts.ErrorInfo:
    """Return an error as it is kept, without secrets and of bounded length."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        message = "(its text could not be made)"
    text = "".join(traceback.format_exception(error, limit=-30))
    return facts.ErrorInfo(
        code=error.code if isinstance(error, HoldfastError) else "step_failed",
        message=facts.readable(scrub(message))[:MESSAGE_LIMIT],
        type=facts.readable(scrub(class_name(type(error))))[:MESSAGE_LIMIT],
        traceback=facts.readable(scrub(text))[-TRACEBACK_LIMIT:],
        step=step.step,
        name=step.name,
        attempt=step.attempt,
        fix=facts.readable(scrub(error.fix))[:MESSAGE_LIMIT] if isinstance(error, HoldfastError) else "",
    )
