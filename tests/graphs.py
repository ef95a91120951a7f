"""Small graphs, and ways to wait for what they do. Nothing here sleeps for a guess: all waits end with their cause."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from holdfast import END, START, StateGraph
from holdfast.patterns.graph.factory import GraphWorkflow

LONG: Final = bool(os.environ.get("HOLDFAST_TEST_LONG"))
"""Whether the long forms of the tests are asked for."""

PATIENCE: Final = 20.0
"""Seconds after which a test gives up; far more than anything takes on a busy machine."""

Node = Callable[..., Any] | StateGraph | GraphWorkflow | str
Nodes = Node | tuple[Node, dict[str, Any]]
"""A node's function, with the options of `add_node` if there are any."""


def sequence(name: str, /, *, schema: Any = None, config: Any = None, **nodes: Nodes) -> StateGraph:
    """A graph that runs its nodes one after the other; a node may come with its options."""
    graph = StateGraph(name, schema=schema, config=config)
    last = START
    for label, node in nodes.items():
        fn, options = node if isinstance(node, tuple) else (node, {})
        graph.add_node(label, fn, **options)
        graph.add_edge(last, label)
        last = label
    graph.add_edge(last, END)
    return graph


def parallel(name: str, /, *, schema: Any = None, **nodes: Nodes) -> StateGraph:
    """A graph that runs all its nodes in one round."""
    graph = StateGraph(name, schema=schema)
    for label, node in nodes.items():
        fn, options = node if isinstance(node, tuple) else (node, {})
        graph.add_node(label, fn, **options)
        graph.add_edge(START, label).add_edge(label, END)
    return graph


def nothing(state: Any) -> None:
    """A node that changes nothing."""


async def until(holds: Callable[[], bool | Awaitable[bool]], timeout: float = PATIENCE) -> None:
    """Wait until `holds()` does."""
    deadline = time.monotonic() + timeout
    while True:
        answer = holds()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < deadline, f"still not so after {timeout:g} seconds"
        await asyncio.sleep(0.005)


class Gate:
    """A door in a node: tells that it was reached, and holds whoever comes until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        """Let everybody pass, now and later."""
        self._open.set()

    def wait(self) -> None:
        """Pass, in a thread."""
        self.reached.set()
        assert self._open.wait(PATIENCE), "nobody opened the gate"

    async def passed(self) -> None:
        """Pass, in a task."""
        self.reached.set()
        await until(self._open.is_set)

    async def until_reached(self) -> None:
        """Wait until somebody stands before the gate."""
        await until(self.reached.is_set)
