"""A flat machine in memory: how many triggers per second, on Holdfast, `transitions` and `python-statemachine`.

The life cycle of an assessment with five states goes round; each library is used as its documentation says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.measure import case_parser, emit

EVENTS = ("submit", "reject", "submit", "approve", "reopen")
TABLE = {
    "draft": {"submit": "pending"},
    "pending": {"reject": "draft", "approve": "active"},
    "active": {"reopen": "draft", "close": "closed"},
}
WARM_UP = 1_000
BATCH = 1_000


def holdfast() -> Callable[[str], Any]:
    from holdfast import StateMachine  # noqa: PLC0415 - each case loads one library

    machine = StateMachine(initial="draft")
    for source, ways in TABLE.items():
        for event, target in ways.items():
            machine.add_transition(source, target, event)
    return machine.trigger


def transitions() -> Callable[[str], Any]:
    from transitions import Machine  # type: ignore[import-not-found]  # noqa: PLC0415 - as above

    ways = [[event, source, target] for source, found in TABLE.items() for event, target in found.items()]
    machine = Machine(states=["draft", "pending", "active", "closed"], transitions=ways, initial="draft")
    trigger: Callable[[str], Any] = machine.trigger
    return trigger


def statemachine() -> Callable[[str], Any]:
    from statemachine import State, StateMachine  # type: ignore[import-not-found]  # noqa: PLC0415 - as above

    class Assessment(StateMachine):  # type: ignore[misc]
        draft = State(initial=True)
        pending = State()
        active = State()
        closed = State(final=True)
        submit = draft.to(pending)
        reject = pending.to(draft)
        approve = pending.to(active)
        reopen = active.to(draft)
        close = active.to(closed)

    send: Callable[[str], Any] = Assessment().send
    return send


ENGINES = {"holdfast": holdfast, "transitions": transitions, "python-statemachine": statemachine}


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    arguments = parser.parse_args()
    trigger = ENGINES[arguments.engine]()
    for _ in range(WARM_UP):
        for event in EVENTS:
            trigger(event)
    count, begun = 0, time.process_time()
    while (taken := time.process_time() - begun) < arguments.seconds:
        for _ in range(BATCH):
            for event in EVENTS:
                trigger(event)
        count += BATCH * len(EVENTS)
    emit({"triggers_per_second": count / taken, "us_per_trigger": 1e6 * taken / count})


if __name__ == "__main__":
    main()
