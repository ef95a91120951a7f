"""The workflow of `holdfast demo`, and the program that runs it (arguments: URL, FILE, SECONDS).

It renders a film of twelve frames, four at once. Frame 7 fails at first and is tried again; after the review an edge
decides. Each execution of a node leaves a line in a file: the proof of what ran, and how often.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from holdfast import (
    END,
    START,
    Engine,
    RetryPolicy,
    Runtime,
    Send,
    State,
    StateGraph,
    StepContext,
    workflow_factory,
)

NAME: Final = "demo-film"
RUN_ID: Final = "demo"
FANNED_OUT: Final = "render"
FRAMES: Final = 12
AT_ONCE: Final = 4
FAILS_AT_FIRST: Final = 7
PICTURES: Final = 3
"""Times that a frame tells how far it is."""

FRAME_SHARE: Final = 0.14
STEP_SHARE: Final = 0.05
"""What a frame and any other step take of the demo's seconds."""

Node = Callable[[State, StepContext], dict[str, Any]]


class Traces:
    """The file of side effects: a line for each execution of a node."""

    def __init__(self, path: Path, seconds: float) -> None:
        """Keep where to write, and how long the demo may take."""
        self.path = path
        self.seconds = seconds

    def leave(self, step: StepContext) -> None:
        """Leave a line: this step runs now."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{step.step_id}\n")

    def counts(self) -> dict[str, int]:
        """Return how often each step ran."""
        lines = self.path.read_text(encoding="utf-8").split()
        return {step: lines.count(step) for step in lines}


def plain_node(traces: Traces, changes: dict[str, Any]) -> Node:
    """Return a node that takes a moment and changes the state."""

    def node(state: State, step: StepContext) -> dict[str, Any]:  # noqa: ARG001 - the signature of a node
        traces.leave(step)
        time.sleep(traces.seconds * STEP_SHARE)
        return changes

    return node


def render_node(traces: Traces) -> Node:
    """Return the node that renders one frame."""

    def render(state: State, step: StepContext) -> dict[str, Any]:
        traces.leave(step)
        for picture in range(PICTURES):
            time.sleep(traces.seconds * FRAME_SHARE / PICTURES * (0.7 + 0.15 * (state["frame"] % AT_ONCE)))
            step.progress(100 * (picture + 1) / (PICTURES + 1), f"frame {state['frame']}")
            if state["frame"] == FAILS_AT_FIRST and step.attempt == 1:
                raise ConnectionError("the render farm does not answer")
        return {}

    return render


def every_frame(state: State) -> list[Send]:
    """Return an order for each frame."""
    return [Send(FANNED_OUT, {"frame": number}) for number in range(1, state["frames"] + 1)]


def scratched(state: State) -> bool:
    """Tell whether the review found scratches."""
    return bool(state["scratches"])


@workflow_factory(NAME, "Renders a film: a fan-out, a retry, an edge that decides")
def demo_film(graph: StateGraph, runtime: Runtime, params: dict[str, Any]) -> State:
    """Build the graph."""
    traces: Traces = runtime.traces
    again = RetryPolicy(attempts=3, backoff=traces.seconds * STEP_SHARE, jitter="none")
    graph.add_node("split", plain_node(traces, {"frames": FRAMES}))
    graph.add_node(FANNED_OUT, render_node(traces), retry=again)
    graph.add_node("review", plain_node(traces, {"scratches": 0}))
    graph.add_node("repair", plain_node(traces, {"scratches": 0}))
    graph.add_node("publish", plain_node(traces, {"url": "https://example.org/film"}))
    graph.add_edge(START, "split")
    graph.add_conditional_edge("split", every_frame, [FANNED_OUT])
    graph.add_edge(FANNED_OUT, "review")
    graph.add_edge("review", "repair", when=scratched)
    graph.add_edge("review", "publish")
    graph.add_edge("repair", "publish")
    graph.add_edge("publish", END)
    return State({"title": params["title"]})


async def run_here(url: str, traces: Traces) -> None:
    """Run the film in this process, to its end. Opening the engine alone takes up what another process left."""
    async with Engine(url, runtime=Runtime(traces=traces), observers=(), concurrency=AT_ONCE) as engine:
        run = await engine.start(NAME, {"title": "Kelp"}, id=RUN_ID)
        await run.result()


if __name__ == "__main__":
    asyncio.run(run_here(sys.argv[1], Traces(Path(sys.argv[2]), float(sys.argv[3]))))
