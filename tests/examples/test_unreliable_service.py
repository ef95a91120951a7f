"""The unreliable service: whatever it does, each run ends, and the breaker keeps requests from it."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from examples.unreliable_service.demo import play
from examples.unreliable_service.plot import draw


async def test_every_run_ends_and_the_breaker_opens_and_closes(tmp_path: Path) -> None:
    said = io.StringIO()
    plan = (("well", 0.5), ("failing", 2.5), ("well", 600.0))
    story = await play(Console(file=said, width=200), plan, seconds=6.0)  # type: ignore[arg-type]
    states = [state for state, _, _ in story.states]
    assert (states[0], states[-1]) == ("closed", "closed")
    assert {"open", "half_open"} <= set(states)
    reached = [request.mood for request in story.requests]
    begun_while_failing = sum(0.5 <= at < 3 for at, _, _ in story.runs)
    assert reached.count("failing") < begun_while_failing + 4
    assert "failed for good" in said.getvalue()
    draw(story, tmp_path / "story.png")
    assert (tmp_path / "story.png").stat().st_size > 5000
