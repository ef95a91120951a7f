"""A client that starts many short runs while mishaps go on, sends them signals, cancels some, and insists."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from holdfast import Engine, InvalidStatus, RunCancelled, RunFailed, RunStatus
from holdfast.errors import StoreUnavailable
from holdfast.store.rows import RunQuery
from tests.crash.processes import Journal
from tests.crash.workflows import WIDE_RESULT
from tests.graphs import until

T = TypeVar("T")

ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})
Outcome = tuple[str, Any]


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the store answers; all that is called here may be repeated."""
    while True:
        try:
            return await call()
        except StoreUnavailable:
            await asyncio.sleep(0.05)


async def outcome(client: Engine, run: str) -> Outcome:
    """What the run came to."""
    try:
        return "completed", await client.result(run)
    except RunCancelled:
        return "cancelled", None
    except RunFailed as error:
        return "failed", error.error.message


class Load:
    """Runs of four workflows, and what became of each request about them."""

    def __init__(self, client: Engine, log: Path, chance: random.Random) -> None:
        self.runs: dict[str, str] = {}
        """The workflow of each run."""
        self.cancelled: set[str] = set()
        self.signals: set[tuple[str, str]] = set()
        self._client = client
        self._log = str(log)
        self._chance = chance
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    async def go_on(self) -> None:
        """Start runs, and disturb them, until `stop`."""
        while not self._stopped:
            await self._start()
            if self._chance.random() < 0.5:
                await self._disturb(self._chance.choice(list(self.runs)))
            await asyncio.sleep(self._chance.uniform(0, 0.04))

    async def _start(self) -> None:
        workflow = self._chance.choice(["wide", "wide", "wide", "flaky", "doomed"])
        run = f"{workflow}-{len(self.runs)}"
        params: dict[str, Any] = {"log": self._log}
        if workflow == "wide":
            params["size"] = 3
        if workflow == "flaky":  # beyond a second a wait is a timer in the store
            params["backoff"] = self._chance.choice([0.1, 1.1])
        delay = self._chance.choice([None, None, None, 0.3])
        await insist(lambda: self._client.start(workflow, params, id=run, delay=delay))
        self.runs[run] = workflow

    async def _disturb(self, run: str) -> None:
        chance = self._chance.random()
        if chance < 0.1:
            self.cancelled.add(run)
            await insist(lambda: self._client.cancel(run))
        elif chance < 0.5:
            await insist(lambda: self._client.pause(run))
            await insist(lambda: self._resume(run))
        else:
            key = f"key-{len(self.signals)}"
            self.signals.add((run, key))
            await insist(lambda: self._signal(run, key))

    async def _signal(self, run: str, key: str) -> None:
        try:
            await self._client.signal(run, "hello", {"n": 1}, key=key)
        except InvalidStatus:  # it has ended
            self.signals.discard((run, key))

    async def _resume(self, run: str) -> None:
        if (await self._client.get(run)).status not in ENDED:
            with suppress(InvalidStatus):  # it has ended since it was looked at
                await self._client.resume(run)

    async def settle(self, patience: float) -> None:
        """Wait until all runs have ended; resume those that were stopped, by somebody or for want of living workers."""

        async def settled() -> bool:
            for row in await self._client.store.runs(
                RunQuery(status=frozenset({RunStatus.PAUSED}), limit=1000)
            ):
                assert row.error is None or row.error.code == "poison", row.error
                await self._client.resume(row.id)
            return await self._client.store.count(RunQuery(status=ENDED)) == len(self.runs)

        await until(lambda: insist(settled), patience)

    def expected(self, run: str) -> Outcome:
        """What the run comes to when nobody disturbs it."""
        match self.runs[run]:
            case "wide":
                return "completed", {**WIDE_RESULT, "log": self._log}
            case "flaky":
                return "completed", {"done": True}
            case _:
                return "failed", f"{run} is doomed"

    async def judge(self, client: Engine) -> None:
        """Check that every run came to what it comes to undisturbed, but for those that somebody cancelled."""
        outcomes = {run: await outcome(client, run) for run in self.runs}
        wrong = {
            run: outcome
            for run, outcome in outcomes.items()
            if outcome != self.expected(run) and not (outcome[0] == "cancelled" and run in self.cancelled)
        }
        assert wrong == {}
        print(Counter(f"{self.runs[run]} {outcome[0]}" for run, outcome in outcomes.items()))

    def check_signals(self, journals: Mapping[str, Journal]) -> None:
        """Check that each signal was recorded at most once, however often it was sent."""
        for run, key in self.signals:
            taken = [fact for fact in journals[run].of("SignalReceived") if fact["key"] == key]
            assert len(taken) <= 1
