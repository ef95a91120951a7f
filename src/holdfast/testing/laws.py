"""The laws that every journal obeys, whatever happened to the run. Each function returns the violations it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Any, Final

import msgspec

from holdfast.core.advance import wanted
from holdfast.core.ledger import Ledger
from holdfast.core.program import Program, fold
from holdfast.core.supervision import RUN
from holdfast.model import facts
from holdfast.model.commit import Commit
from holdfast.model.ids import COMPENSATION, is_compensation, split_step
from holdfast.testing.given import shown
from holdfast.testing.replay import first_difference

Opens = Callable[[], Program[Any]]

CUTS: Final = 2
"""At so many places a journal is cut for the prefix law; each costs a fold."""


def broken_laws(commits: Sequence[Commit], opens: Opens | None, random: Random) -> list[str]:
    """Return what is wrong with a journal, given as its commits in order. `opens` opens the run's program anew."""
    journal = [fact for commit in commits for fact in commit.facts]
    found = [*_ending(journal), *_steps(journal)]
    if opens is not None and not found:
        found += _quiet(commits, opens())
        found += _prefix(journal, opens, random)
        difference = first_difference(opens(), journal)
        found += [difference] if difference is not None else []
    return found


def _ending(journal: Sequence[facts.Fact]) -> Iterator[str]:
    """Nothing follows the end but a resume, and nothing at all a completion; a run starts once."""
    if journal and not isinstance(journal[0], facts.RunStarted):
        yield f"the first fact is {shown(journal[0])}"
    ended: facts.Fact | None = None
    for position, fact in enumerate(journal, 1):
        if (
            ended is not None
            and (isinstance(ended, facts.RunCompleted) or not isinstance(fact, facts.RunResumed))
            and not isinstance(fact, facts.RunForked)
        ):
            yield f"position {position}: {shown(fact)} after {type(ended).__name__}"
        if position > 1 and isinstance(fact, facts.RunStarted):
            yield f"position {position}: the run starts again"
        ended = fact if isinstance(fact, facts.TERMINAL) else None


class _Step:
    def __init__(self, *, waits: bool = False) -> None:
        self.attempt = 1
        self.open = True
        self.completed = False
        self.may_rest = False
        """It had failed when its run was forked: a program that had dealt with that leaves it so."""
        self.waits = waits

    def answer(self) -> None:
        self.open, self.completed = False, True


class _Signals:
    """Signals go to the oldest open wait of their name, else they are kept for the next one."""

    def __init__(self) -> None:
        self.waits: dict[str, list[_Step]] = {}
        self.early: dict[str, int] = {}

    def wait(self, name: str, step: _Step) -> None:
        if self.early.get(name):
            self.early[name] -= 1
            step.answer()
        else:
            self.waits.setdefault(name, []).append(step)

    def arrive(self, name: str) -> None:
        waiting = next((step for step in self.waits.get(name, ()) if step.open), None)
        if waiting is None:
            self.early[name] = self.early.get(name, 0) + 1
        else:
            waiting.answer()


def _steps(journal: Sequence[facts.Fact]) -> Iterator[str]:
    """A step is scheduled once, ends once between resumes; its attempts count up by one; none is open at the end."""
    book = _Book()
    for position, fact in enumerate(journal, 1):
        for text in book.enter(fact):
            yield f"position {position}: {text}"


class _Book:
    """The steps of a run so far."""

    def __init__(self) -> None:
        self.steps: dict[str, _Step] = {}
        self.iterations: dict[str, int] = {}
        self.signals = _Signals()

    def enter(self, fact: facts.Fact) -> Iterable[str]:
        """Note a fact; returns what is wrong with it."""
        match fact:
            case facts.StepScheduled():
                return self._schedule(fact)
            case facts.SignalReceived():
                self.signals.arrive(fact.name)
            case facts.StepSuspended():
                return _attempt(fact, self.steps, fact.attempt)
            case facts.StepRetried() | facts.StepCompleted() | facts.StepFailed() | facts.StepCancelled():
                return self._go_on(fact)
            case facts.DecisionMade() if any(edge.name == "savepoint" for edge in fact.edges):
                _settle(self.steps)
            case facts.RunForked():
                self._fork()
            case facts.RunResumed():
                return [*_reopened(fact, self.steps)]
            case facts.RunCompleted() | facts.RunFailed() | facts.RunCancelled():
                left = [name for name, step in self.steps.items() if step.open and not step.may_rest]
                return [f"step {name} is open at {shown(fact)}" for name in left]
            case _:
                pass
        return ()

    def _schedule(self, fact: facts.StepScheduled) -> list[str]:
        wrong = _scheduled(fact, self.steps, self.iterations)
        if fact.kind == "signal":
            self.signals.wait(fact.name, self.steps[fact.step])
        return wrong

    def _fork(self) -> None:
        """What had not ended well counts as never started, with the calls inside of it; nothing waits."""
        for name in [*self.steps]:
            outer, inside, _ = name.rpartition("/")
            if inside and not self.steps[outer].completed:
                del self.steps[name]
                self.iterations.pop(split_step(name)[0], None)
        for step in self.steps.values():
            if step.waits:
                step.answer()
            elif not step.completed:
                step.may_rest = step.may_rest or not step.open
                step.open, step.attempt = True, 1

    def _go_on(self, fact: Any) -> list[str]:
        retried = isinstance(fact, facts.StepRetried)
        wrong = _attempt(fact, self.steps, fact.attempt - retried)
        step = self.steps.get(fact.step)
        if step is not None:
            step.may_rest = False
        if step is not None and retried:
            step.attempt = fact.attempt
        elif step is not None:
            step.open, step.completed = False, isinstance(fact, facts.StepCompleted)
        return wrong


def _scheduled(fact: facts.StepScheduled, steps: dict[str, _Step], iterations: dict[str, int]) -> list[str]:
    wrong = []
    if fact.step in steps:
        wrong.append(f"step {fact.step} is scheduled twice")
    name, iteration = split_step(fact.step)
    if is_compensation(fact.step):
        return [*wrong, *_undone(fact, steps)]
    if iteration != fact.iteration or iteration != iterations.get(name, 0) + 1:
        wrong.append(f"step {fact.step} is iteration {fact.iteration} after {iterations.get(name, 0)}")
    iterations[name] = iteration
    steps[fact.step] = _Step(waits=fact.kind == "signal" or fact.parent == RUN)  # neither is reopened
    return wrong


def _undone(fact: facts.StepScheduled, steps: dict[str, _Step]) -> list[str]:
    """A compensation has the iteration of what it takes back; with the first one all that failed is settled."""
    undone = steps.get(fact.step.removeprefix(COMPENSATION))
    wrong = [] if undone is not None and not undone.open else [f"{fact.step} takes back what has not ended"]
    _settle(steps)
    steps[fact.step] = _Step()
    return wrong


def _settle(steps: dict[str, _Step]) -> None:
    """Let a saga go back: what failed until then is tried no more by a resume."""
    for name, step in steps.items():
        step.completed = step.completed or not (step.open or is_compensation(name))


def _attempt(fact: Any, steps: dict[str, _Step], expected: int) -> list[str]:
    step = steps.get(fact.step)
    if step is None:
        return [f"{shown(fact)} of a step that was never scheduled"]
    if not step.open:
        return [f"{shown(fact)} of a step that has ended"]
    return [] if step.attempt == expected else [f"{shown(fact)} while attempt {step.attempt} is open"]


def _reopened(fact: facts.RunResumed, steps: dict[str, _Step]) -> Iterator[str]:
    for name, _ in fact.settled:
        if name not in steps or steps[name].open or steps[name].completed:
            yield f"a resume settles {name}, which is not unresolved"
        else:
            steps[name].completed = True
    for name, attempt in fact.reopened:
        step = steps.get(name)
        if step is None or step.open or step.completed:
            yield f"a resume reopens {name}, which is not unresolved"
        elif attempt != step.attempt + 1:
            yield f"a resume reopens {name} as attempt {attempt} after {step.attempt}"
        if step is not None:
            step.open, step.attempt = True, attempt


def _quiet(commits: Sequence[Commit], program: Program[Any]) -> Iterator[str]:
    """After each commit of a holder nothing is wanted that is not recorded."""
    progress, position = program.start(), 0
    for commit in commits:
        parks = any(isinstance(fact, facts.RunPaused) and fact.error is not None for fact in commit.facts)
        for fact in commit.facts:
            if isinstance(fact, facts.RunResumed):
                yield from _left(fact, progress.ledger, parks=parks)
            progress, position = program.evolve(progress, fact), position + 1
        if commit.opened is not None and len(commit.facts) == 1:
            continue  # started by a client; a worker decides
        last = commit.facts[-1]
        if isinstance(last, facts.RunForked):
            continue  # made by a client of another run's journal; a worker decides
        if isinstance(last, facts.RunPaused) and last.error is not None:
            continue  # parked without its program
        commands = wanted(program, progress, commit.at)
        if commands:
            yield f"position {position}: {commands[0]!r:.200} is wanted and not recorded"


def _left(fact: facts.RunResumed, ledger: Ledger, *, parks: bool) -> Iterator[str]:
    """A resume reopens all that is unresolved, but for what begins anew; child runs not where it parks the run, too."""
    anew = {name for name, _ in fact.cleared} | {step for step, _ in fact.reopened}
    for step in ledger.unresolved.values():
        if step.step not in anew and step.name not in anew and not (parks and step.kind == "run"):
            yield f"a resume leaves {step.step} unresolved"


def _prefix(journal: Sequence[facts.Fact], opens: Opens, random: Random) -> Iterator[str]:
    """A fold that was stored and loaded goes on as one that never was."""
    program = opens()
    if not program.checkpoints or len(journal) < CUTS:
        return
    whole = comparable(program, fold(program, program.start(), journal))
    for _ in range(CUTS):
        cut = random.randrange(1, len(journal))
        first = opens()
        stored = first.encode(fold(first, first.start(), journal[:cut]))
        second = opens()
        gone_on = comparable(second, fold(second, second.decode(stored), journal[cut:]))
        if gone_on != whole:
            yield f"cut at position {cut}: {gone_on!r} is not {whole!r}"


def comparable(program: Program[Any], progress: Any) -> Any:
    """Return a progress as plain values in which equal ones are equal: sets are stored in any order."""
    return _sorted(msgspec.json.decode(program.encode(progress)))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [_sorted(item) for item in value]
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    return value
