"""The demo: ``python -m examples.unreliable_service.demo [PICTURE]``; it takes some fifteen seconds."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec
from rich.console import Console

from holdfast import Engine, Runtime
from holdfast.core.breaker import BreakerRow

from .plot import Story, draw
from .service import PLAN, Mood, Service
from .workflow import BREAKER, NAME


async def watch(engine: Engine, service: Service, states: list[tuple[str, float]]) -> None:
    """Note each state of the breaker as all processes see it."""
    while True:
        row = await engine.store.limit(f"breaker:{BREAKER.name}")
        state = "closed" if row is None else msgspec.json.decode(row.body, type=BreakerRow).state
        if not states or states[-1][0] != state:
            states.append((state, service.elapsed))
        await asyncio.sleep(0.02)


async def one(engine: Engine, service: Service, story: Story, *, stale: bool) -> None:
    at, began = service.elapsed, time.monotonic()
    run = await (await engine.start(NAME, {"stale": stale})).wait()
    took = time.monotonic() - began
    story.runs.append((at, took, run.status == "completed" and "stale" in await run.result()))


async def play(console: Console, plan: tuple[tuple[Mood, float], ...] = PLAN, seconds: float = 13.0) -> Story:
    """Starts runs at an even pace while the service goes through its moods; those that fail are redriven in the end."""
    states: list[tuple[str, float]] = []
    with Service(plan) as service:
        story = Story(seconds, _spans([mood for mood, _ in plan], plan, seconds), service.requests, ())
        async with httpx.AsyncClient() as http:
            runtime = Runtime(http=http, url=service.url)
            async with Engine("sqlite:///:memory:", runtime=runtime, observers=()) as engine:
                watching = asyncio.ensure_future(watch(engine, service, states))
                runs: list[asyncio.Future[None]] = []
                while service.elapsed < seconds - 3:
                    stale = len(runs) % 4 == 3
                    runs.append(asyncio.ensure_future(one(engine, service, story, stale=stale)))
                    await asyncio.sleep(0.1)
                await asyncio.gather(*runs)
                letters = await engine.dead_letters()
                redriven = [await run.result() async for run in engine.redrive_many()]
                watching.cancel()
        story.seconds = max(seconds, service.elapsed)
    ends = [at for _, at in states[1:]] + [story.seconds]
    story.states = [(state, at, end) for (state, at), end in zip(states, ends, strict=True)]
    told = Counter(request.mood for request in story.requests)
    console.print(
        f"{len(story.runs)} runs; {len(letters)} failed for good, {len(redriven)} of them were redriven"
    )
    console.print(f"requests that reached the service: {dict(told)}")
    console.print(f"states of the breaker: {' -> '.join(state for state, _ in states)}")
    console.print(f"old prices: {sum(stale for _, _, stale in story.runs)}")
    return story


def _spans(
    moods: Sequence[str], plan: tuple[tuple[Mood, float], ...], seconds: float
) -> list[tuple[str, float, float]]:
    ends = [0.0]
    for _, span in plan:
        ends.append(min(ends[-1] + span, seconds))
    return [(mood, begin, end) for mood, (begin, end) in zip(moods, pairwise(ends), strict=True)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ask an unreliable service behind the full policy.")
    parser.add_argument("picture", nargs="?", type=Path, default=Path("unreliable_service.png"))
    file = parser.parse_args().picture
    out = Console()
    draw(asyncio.run(play(out)), file)
    out.print(f"the picture is in {file}")
    sys.exit(0)
