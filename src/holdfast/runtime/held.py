"""A run that this process holds, between its claim and its release."""

from __future__ import annotations

import asyncio
import concurrent.futures
import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.effects import SHORT_WAIT, Holding
from holdfast.core.ledger import Ledger
from holdfast.core.program import Program, Workflow
from holdfast.core.work import Blobs, Work
from holdfast.model import facts
from holdfast.model.commit import AnyEffect
from holdfast.model.ids import SECOND, CommitId, Instant, RunId, StepId
from holdfast.model.run import RunStatus
from holdfast.model.secrets import Secrets, Watched
from holdfast.runtime.attempt import Attempt, Deliver
from holdfast.runtime.caching import Asked, Keeping
from holdfast.runtime.clock import Clock
from holdfast.runtime.executor import Executor
from holdfast.store.rows import InboxRow

CLOCKS_DIFFER: Final = SECOND
"""By so much two processes may see the store's clock differently."""

_BEGINNING: Final = ""
"""Stands for a step where a delayed run waits for its beginning."""


def _forget(_: RunId, __: Mapping[str, str]) -> None:
    """Keep nothing: the run is not adopted yet, and who adopts it keeps what it knows then."""


class Held:
    """Everything the driver knows of a run while it drives it. Only the driver changes it."""

    __slots__ = (
        "_calls",
        "_dropped",
        "_followers",
        "_mail",
        "_poked",
        "_timer",
        "_waiter",
        "arrived",
        "asked",
        "asking",
        "backoff",
        "blobs",
        "causes",
        "closing",
        "committed",
        "epoch",
        "facts_since_fold",
        "fold_size",
        "holding",
        "id",
        "keep",
        "kept",
        "last_commit",
        "live",
        "lost",
        "missing",
        "params",
        "position",
        "program",
        "progress",
        "ready",
        "releasing",
        "secrets",
        "sending",
        "sits_out",
        "size_since_fold",
        "status",
        "telling",
        "wakes",
        "woken",
        "workflow",
    )

    def __init__(
        self,
        run: RunId,
        program: Program[Any],
        progress: Any,
        *,
        blobs: Blobs,
        secrets: Secrets,
        holding: Holding,
        params: msgspec.Raw = facts.NOTHING,
        position: int = 0,
        epoch: int = 1,
        status: RunStatus = RunStatus.PENDING,
        wakes: int = 0,
    ) -> None:
        """Keep what was loaded, or begin with an empty journal."""
        self.id = run
        self.program = program
        self.progress = progress
        self.blobs = blobs
        self.secrets = secrets
        self.holding = holding
        self.position = position
        self.epoch = epoch
        self.status = status
        self.wakes = wakes
        self.last_commit: CommitId = ""
        self.workflow: Workflow | None = None
        """Whose program it is, if the run was taken up here: a name may be given anew meanwhile."""
        self.missing: tuple[str, ...] = ()
        self.params = params
        self.sending: list[AnyEffect] = []  # beginnings of child runs, and results to keep
        self.asking: list[Asked] = []  # planned steps that the cache is asked for first
        self.kept: dict[StepId, Keeping] = {}  # under what results of steps go into the cache
        self.live: dict[StepId, Attempt] = {}
        self.ready: dict[StepId, Work] = {}
        self.backoff: list[tuple[Instant, StepId]] = []
        self.causes: dict[StepId, BaseException] = {}
        self.closing = False
        self.asked = False
        """Steps were asked to end, and their attempts are not told yet."""
        self.keep: Callable[[RunId, Mapping[str, str]], None] = _forget
        self.lost = False
        self.sits_out = SHORT_WAIT
        self.committed = False
        self.releasing = False
        self.woken = False
        self.arrived: Sequence[InboxRow] | None = None
        self.facts_since_fold = 0
        self.size_since_fold = 0
        self.fold_size = 0
        self._mail: list[facts.Fact] = []
        self._calls: list[concurrent.futures.Future[None]] = []
        self.telling: list[concurrent.futures.Future[None]] = []
        self._poked = False
        self._dropped = False
        self._followers: list[asyncio.Future[None]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def ledger(self) -> Ledger:
        """The run's ledger."""
        ledger: Ledger = self.progress.ledger
        return ledger

    @property
    def stopped(self) -> bool:
        """Tell whether no step may start: paused, cancelling, ended, or this process is closing."""
        ledger = self.progress.ledger
        return bool(self.closing or ledger.ended or ledger.paused or ledger.cancelling)

    def attempt(
        self, executor: Executor, services: Any, step: StepId, work: Work, deliver: Deliver
    ) -> Attempt:
        """Return the next attempt of an open step."""
        return Attempt(
            *(executor, self.id, self.ledger.open[step], work),
            services=services,
            pinned=self.ledger.profile,
            workflow=self.holding.workflow,
            secrets=self.secrets if work.cache is None else Watched(self.secrets),
            blobs=self.blobs,
            deliver=deliver,
            record=self.record,
        )

    # --- mail

    def deliver(self, attempt: Attempt, fact: facts.Fact) -> None:
        """Take what an attempt has to say."""
        if attempt.ended:
            self.live.pop(attempt.step.step, None)
            self.learn(attempt)
        self._mail.append(fact)
        self.poke()

    def record(self, ended: Sequence[facts.Fact], kept: concurrent.futures.Future[None]) -> None:
        """Take a finished call of a running attempt; `kept` is told when the next commit is durable."""
        self._mail += ended
        self._calls.append(kept)
        self.poke()

    @property
    def idle(self) -> bool:
        """Tell whether nothing runs, and nothing came that was not taken."""
        return not (self.live or self._mail or self.woken)

    def learn(self, attempt: Attempt) -> None:
        """Keep what an attempt leaves in memory: its exception, large values, and the secrets it gave to the run."""
        if attempt.large and (keeping := self.kept.get(attempt.step.step)) is not None:
            keeping.large = attempt.large
        if attempt.error is not None:
            self.causes[attempt.step.step] = attempt.error
        if attempt.learned is not None:
            # Steps of one round each change what they were given; together they know what all of them set.
            given, learned = attempt.secrets, attempt.learned
            kept = {
                name: value for name, value in self.secrets.items() if name in learned or name not in given
            }
            changed = {name: value for name, value in learned.items() if given.get(name) != value}
            self.secrets = Secrets(kept | changed)
            self.keep(self.id, self.secrets)

    def wake(self, wakes: int) -> None:
        """Have the driver read the inbox."""
        self.wakes, self.woken, self.arrived = wakes, True, None
        self.poke()

    def lose(self) -> None:
        """Have the driver drop the run: it was claimed anew."""
        self.lost = True
        self.poke()

    def close(self) -> None:
        """Have the driver release the run as soon as its running steps have ended."""
        self.closing = True
        self.poke()

    def poke(self) -> None:
        """Wake the driver."""
        waiter = self._waiter
        if waiter is None:
            self._poked = True
        elif not waiter.done():
            waiter.set_result(None)

    def post(self, arrivals: list[facts.Fact]) -> None:
        """Put arrivals before all others, and have the driver take a turn, also without any."""
        self._mail[:0] = arrivals
        self._poked = True

    def waiter(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None] | None:
        """Return what to wait for until there is mail, a wake-up or a timer; None when there is something."""
        if self._mail or self.woken or self._poked:
            return None
        self._waiter = loop.create_future()
        return self._waiter

    def take(self) -> list[facts.Fact]:
        """Return the arrivals, in order."""
        self._waiter, self._poked = None, False
        mail, self._mail = self._mail, []
        if self._calls:
            self.telling += self._calls
            self._calls = []
        return mail

    def tell(self) -> None:
        """Tell the calls whose results were taken last that these are durable."""
        telling, self.telling = self.telling, []
        for kept in telling:
            if not kept.done():
                kept.set_result(None)

    # --- back-off

    def wait_until(self, due: Instant, step: StepId) -> None:
        """Start the step when `due` has come, if the run is still held then."""
        heapq.heappush(self.backoff, (due, step))

    def backs_off_at(self, fact: facts.StepRetried) -> bool:
        """Wait for a step's next attempt if that is due later, and tell so. A child run waits by itself."""
        opened = self.ledger.open.get(fact.step)
        if fact.due <= fact.at or opened is None or opened.kind == "run":
            return False
        self.wait_until(fact.due, fact.step)
        return True

    def reopened(self, fact: facts.RunResumed) -> list[StepId]:
        """Return the steps that a resume starts at once; wait for those that are due later."""
        anew = {step for step, _ in fact.reopened}
        steps: list[StepId] = []
        if self.ledger.begins > fact.at:
            self.wait_until(self.ledger.begins, _BEGINNING)
        for step in self.ledger.open.values():
            if step.runs and step.due > fact.at:
                self.wait_until(step.due, step.step)
            elif (step.runs and step.step not in self.live) or step.step in anew:
                steps.append(step.step)
        return steps

    def take_over(self, given_up: Collection[StepId], now: Instant) -> None:
        """Wait for what the last holder waited for, but for the attempts that are given up."""
        # It left no row for a wait that was short by its own view of the store's clock.
        self.sits_out = SHORT_WAIT + CLOCKS_DIFFER
        if self.ledger.begins > now:
            self.wait_until(self.ledger.begins, _BEGINNING)
        for step in self.ledger.open.values():
            if step.runs and step.step not in given_up:
                self.wait_until(step.due, step.step)

    def backs_off(self, now: Instant) -> bool:
        """Tell whether a step waits for so short that no row in the inbox will wake the run."""
        return bool(self.backoff) and self.backoff[0][0] - now <= self.sits_out

    def starts_soon(self, clock: Clock) -> bool:
        """Tell whether something will run here shortly: a planned step, or one whose back-off is short."""
        if self.missing:
            return False
        if self.stopped:
            return bool(self._shielded()) or self._shield_backs_off(clock.now())
        return bool(self.ready) or (bool(self.backoff) and self.backs_off(clock.now()))

    def asked_attempts(self) -> list[Attempt]:
        """Return the attempts of steps that were asked to end, which are told now."""
        self.asked = False
        steps = self.ledger.open
        return [each for step, each in self.live.items() if step in steps and steps[step].cancelling]

    def startable(self) -> Sequence[tuple[StepId, Work]]:
        """Return the planned steps that may start now, and plan them no more."""
        if self.missing:
            return ()
        if self.stopped:
            return [(step, self.ready.pop(step)) for step in self._shielded()]
        ready, self.ready = self.ready, {}
        return tuple(ready.items())

    def _shield_backs_off(self, now: Instant) -> bool:
        if self.closing or not self.backs_off(now):
            return False
        steps = self.ledger.open
        return any(step in steps and steps[step].shielded for _, step in self.backoff)

    def _shielded(self) -> list[StepId]:
        """Return the planned steps that start also in a run that was asked to stop."""
        if self.closing:
            return []
        steps = self.ledger.open
        return [step for step in self.ready if step in steps and steps[step].shielded]

    def pop_due(self, now: Instant) -> list[StepId]:
        """Return the steps whose back-off is over, and that do not run."""
        steps = []
        while self.backoff and self.backoff[0][0] <= now:
            steps.append(heapq.heappop(self.backoff)[1])
        return [step for step in steps if step not in self.live]

    def set_timer(self, loop: asyncio.AbstractEventLoop, now: Instant) -> None:
        """Wake the driver when the next back-off is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.backoff:
            self._timer = loop.call_later(max(0, self.backoff[0][0] - now) / 1e6, self.poke)

    def over(self) -> asyncio.Future[None]:
        """Return what to wait for until the run is no longer held."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._dropped:
            future.set_result(None)
        else:
            self._followers.append(future)
        return future

    def drop(self) -> None:
        """Stop everything that runs for it, without a fact, and tell who waits for that."""
        self._dropped = True
        for follower in self._followers:
            if not follower.done():
                follower.set_result(None)
        self._followers.clear()
        if self._timer is not None:
            self._timer.cancel()
        for attempt in list(self.live.values()):
            attempt.drop()
        self.live.clear()
