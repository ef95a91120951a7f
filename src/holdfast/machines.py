"""What machines are made of beside functions: actions that are data, actions with policies, and their errors."""

from holdfast.errors import ActionFailed, InvalidTransition
from holdfast.patterns.machine.actions import action, assign, cancel_event, log, raise_event, send_event
from holdfast.patterns.machine.definition import ALWAYS
from holdfast.patterns.machine.findings import Finding
from holdfast.patterns.machine.memory import Taken
from holdfast.patterns.machine.turn import Endless
from holdfast.sending import Outcome

__all__ = [
    "ALWAYS",
    "ActionFailed",
    "Endless",
    "Finding",
    "InvalidTransition",
    "Outcome",
    "Taken",
    "action",
    "assign",
    "cancel_event",
    "log",
    "raise_event",
    "send_event",
]
