"""What a run asks people: the open questions of its nodes, folded from its journal without its program."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.core.events import Decode, Row
from holdfast.core.ledger import Ledger
from holdfast.model import facts
from holdfast.model.audit import Interrupt
from holdfast.model.ids import RunId, moment, split_step


def open_questions(run: RunId, workflow: str, rows: Iterable[Row], decode: Decode) -> list[Interrupt]:
    """Return the interrupts of a whole journal that nobody has answered, in the order in which they were asked."""
    ledger = Ledger()
    for row in rows:
        for fact in facts.Journal.decode(row.facts):
            ledger.absorb(fact)
    return [
        Interrupt(
            run_id=run,
            workflow=workflow,
            name=step.name,
            payload=decode(step.data),
            node=split_step(step.parent)[0],
            since=moment(step.since),
            deadline=moment(step.due) if step.due else None,
        )
        for step in ledger.open.values()
        if step.kind == "signal" and step.parent
    ]
