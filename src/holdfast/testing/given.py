"""given(program, facts).when(fact).then(commands): how any pattern is tested, without store, loop or clock.

    given(graph, [RunStarted(workflow="g"), StepScheduled(step="START#1", name="START")])
        .when(StepCompleted(step="START#1", attempt=1, data=encode({"n": 1})))
        .then(RecordDecision, ScheduleStep(step="a#1", name="a"))

(The style of tests of the Decider of Chassaing, 2021. A program is level-triggered, so `then` also records what was
wanted, as the driver would, and another `when` may follow.)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

import msgspec

from holdfast.core.advance import BOUND, record, wanted
from holdfast.core.ledger import admit
from holdfast.core.program import Program, fold
from holdfast.core.work import Blobs
from holdfast.model import facts
from holdfast.model.commands import Command
from holdfast.model.ids import SECOND, Instant
from holdfast.model.values import decode
from holdfast.registry import as_workflow
from holdfast.runtime.opening import opened
from holdfast.services import Runtime
from holdfast.testing.clock import BEGIN

Expected = Command | type[Command]

_WIDTH: Final = 200


def given(program: Any, journal: Iterable[facts.Fact] = (), *, runtime: Runtime | None = None) -> Given:
    """Begin with a program, or anything that makes a workflow, after the facts of `journal`."""
    recorded = list(journal)
    if not hasattr(program, "evolve"):
        program = opened(as_workflow(program), runtime or Runtime(), _params(recorded), Blobs())
    return Given(program, recorded)


def _params(recorded: Sequence[facts.Fact]) -> dict[str, Any]:
    params = decode(recorded[0].data) if recorded and isinstance(recorded[0], facts.RunStarted) else {}
    return params if isinstance(params, dict) else {}


class Given:
    """A program after some facts. Made by `given`."""

    def __init__(self, program: Program[Any], journal: Sequence[facts.Fact]) -> None:
        """Fold the journal."""
        self.program: Final = program
        self.progress = fold(program, program.start(), journal)
        self.now: Instant = max((fact.at for fact in journal), default=BEGIN)
        self._told: list[str] = [f"given {_count(len(journal), 'fact')}"]

    @property
    def state(self) -> dict[str, Any]:
        """The user's state as it stands."""
        state: dict[str, Any] = self.program.state(self.progress)
        return state

    def when(self, *arrivals: facts.Fact, now: Instant | None = None) -> Self:
        """Let these arrive together, a second after what was before unless `now` says otherwise.

        As in the driver, an arrival that does not fit is forgotten: of another attempt, of an ended step, repeated.
        """
        self.now = self.now + SECOND if now is None else now
        for arrival in arrivals:
            fact = admit(self.progress.ledger, arrival, self.now)
            self._told.append(f"when {shown(arrival)}{'' if fact is not None else ' (forgotten)'}")
            if fact is not None:
                self.progress = self.program.evolve(self.progress, fact)
        return self

    def then(self, *expected: Expected | Sequence[Expected]) -> Self:
        """Check what the program wants now, in order, and record it. A class stands for any command of it.

        Raises AssertionError with the difference, line by line.
        """
        wishes: list[Expected] = []
        for each in expected:
            wishes += each if isinstance(each, list | tuple) else [each]  # type: ignore[list-item]
        commands = self._decide()
        if len(wishes) != len(commands) or not all(map(_fits, wishes, commands)):
            raise AssertionError(self._difference(wishes, commands))
        self._told.append(f"then {_count(len(commands), 'command')}")
        return self

    def _decide(self) -> list[Command]:
        """Return all that is wanted until nothing more is, recorded one after another."""
        decided: list[Command] = []
        for _ in range(BOUND):
            commands = wanted(self.program, self.progress, self.now)
            if not commands:
                break
            for command in commands:
                self.progress = self.program.evolve(self.progress, record(command, self.now))
            decided += commands
        return decided

    def _difference(self, wishes: Sequence[Expected], commands: Sequence[Command]) -> str:
        found = [shown(command) for command in commands]
        lines = [found[n] if _fits_at(wish, commands, n) else shown(wish) for n, wish in enumerate(wishes)]
        compared = difflib.ndiff(lines or ["(nothing)"], found or ["(nothing)"])
        return "\n".join(
            [*self._told, "then it wants something else (- expected, + wanted):", *map(_indented, compared)]
        )


def shown(thing: Any) -> str:
    """Return a fact, command or class as one line: the fields that say something."""
    if isinstance(thing, type):
        return f"{thing.__name__}(…)"
    fields = []
    for field in msgspec.structs.fields(thing):
        value = getattr(thing, field.name)
        if field.name != "at" and (field.required or value != field.default):
            text = bytes(value).decode() if isinstance(value, msgspec.Raw) else repr(value)
            fields.append(f"{field.name}={text}")
    line = f"{type(thing).__name__}({', '.join(fields)})"
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def _fits(wish: Expected, command: Command) -> bool:
    return isinstance(command, wish) if isinstance(wish, type) else command == wish


def _fits_at(wish: Expected, commands: Sequence[Command], index: int) -> bool:
    return index < len(commands) and _fits(wish, commands[index])


def _indented(line: str) -> str:
    return f"  {line.rstrip()}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
