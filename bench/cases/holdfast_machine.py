"""W(10) as a durable machine: ten transitions with an action each, beside the graph of ten nodes.

On a SQLite file (`synchronous=FULL`) or, given a URL, on PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from functools import partial
from typing import Any

from bench.cases import holdfast_steps
from bench.measure import NODES, Change, Load, Probe, case_parser, emit
from bench.passes import Passes
from holdfast import StateGraph, StateMachine
from holdfast.machines import ALWAYS, action

TURNS = 3
"""The graph and the machine take turns, so that what disturbs one disturbs the other."""


def main() -> None:
    emit(asyncio.run(measure(case_parser(__doc__).parse_args())))


async def measure(arguments: argparse.Namespace) -> dict[str, float]:
    passes = Passes(arguments)
    machine = define(passes.probe)
    graph = holdfast_steps.add_nodes(StateGraph("bench"), passes.probe)
    opened = partial(holdfast_steps.opened, workflow=machine, steps=transitions)
    share = Load(passes.probe, arguments.concurrency, arguments.seconds / TURNS)
    rates: dict[str, list[float]] = {"graph": [], "machine": []}
    url = arguments.url or f"sqlite:///{passes.path}"
    for _ in range(TURNS):
        for name, opening in (
            ("graph", holdfast_steps.opened(url, graph)),
            ("machine", opened(url)),
        ):
            async with opening as execute:
                window = (await share.measure(execute)).metrics()
                rates[name].append(window["steps_per_second"])
    counted = await passes.measure(lambda url: opened(url or f"sqlite:///{passes.path}"))
    middle = {f"{name}_steps_per_s": statistics.median(found) for name, found in rates.items()}
    return middle | {
        "machine_over_graph": middle["machine_steps_per_s"] / middle["graph_steps_per_s"],
        "commits_per_step": counted["commits_per_step"],
    }


def define(probe: Probe) -> StateMachine:
    machine = StateMachine("machine", initial="s0")
    for index in range(NODES):
        machine.add_transition(f"s{index}", f"s{index + 1}", ALWAYS, action=step(probe, index))
    return machine.add_state(f"s{NODES}", final=True)


def step(probe: Probe, index: int) -> Any:
    work = probe.async_node(index)

    async def act(context: dict[str, Any]) -> Change:
        return await work(context)

    return action(act, f"n{index}")


def transitions(result: dict[str, Any]) -> int:
    return int(result["context"]["count"])


if __name__ == "__main__":
    main()
