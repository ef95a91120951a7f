"""Small machines that several tests run."""

from __future__ import annotations

from typing import Any, Final

from holdfast import StateMachine

ASSESSMENT: Final[dict[str, Any]] = {
    "states": {
        "DRAFT": {"on": {"SUBMIT": "PENDING_APPROVAL", "DELETE": "DELETED"}},
        "PENDING_APPROVAL": {"on": {"APPROVE": "ACTIVE", "REJECT": "DRAFT"}},
        "ACTIVE": {"on": {"CLOSE": "CLOSED"}},
        "CLOSED": {"type": "final"},
        "DELETED": {"type": "final"},
    }
}


def assessment() -> StateMachine:
    """The life cycle of an assessment, without actions."""
    return StateMachine.from_dict(ASSESSMENT, name="assessment")
