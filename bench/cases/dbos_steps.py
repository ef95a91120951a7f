"""W(10) on DBOS, on SQLite or, given a URL, PostgreSQL: the async API, or the sync API with a thread per run.

DBOS chooses the settings itself: on SQLite a rollback journal with `synchronous=FULL`, on PostgreSQL a pool of 20.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from dbos import DBOS

from bench.dbos_engine import launched
from bench.measure import NODES, AsyncExecute, Change, Execute, case_parser, emit, initial_state
from bench.passes import Passes


def main() -> None:
    parser = case_parser(__doc__)
    parser.add_argument("--api", choices=["sync", "async"], required=True)
    arguments = parser.parse_args()
    case = Case(Passes(arguments))
    if arguments.api == "sync":
        metrics = case.passes.measure_threads(case.with_sync_api)
    else:
        metrics = asyncio.run(case.passes.measure(case.with_async_api))
    emit(metrics)


class Case:
    """The ways to open DBOS."""

    def __init__(self, passes: Passes) -> None:
        self.passes = passes

    @contextlib.contextmanager
    def with_sync_api(self, url: str) -> Iterator[Execute]:
        with launched(url or f"sqlite:///{self.passes.path}", self._define_sync) as workflow:
            yield lambda run: workflow(initial_state(run))

    @contextlib.asynccontextmanager
    async def with_async_api(self, url: str) -> AsyncIterator[AsyncExecute]:
        with launched(url or f"sqlite:///{self.passes.path}", self._define_async) as workflow:
            yield lambda run: workflow(initial_state(run))

    def _define_sync(self) -> Any:
        steps = [DBOS.step(name=f"n{index}")(self.passes.probe.node(index)) for index in range(NODES)]

        @DBOS.workflow()
        def bench(state: Change) -> Change:
            for step in steps:
                state |= step(state)
            return state

        return bench

    def _define_async(self) -> Any:
        steps = [DBOS.step(name=f"n{index}")(self.passes.probe.async_node(index)) for index in range(NODES)]

        @DBOS.workflow()
        async def bench(state: Change) -> Change:
            for step in steps:
                state |= await step(state)
            return state

        return bench


if __name__ == "__main__":
    main()
