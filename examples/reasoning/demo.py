"""The demo: ``python -m examples.reasoning.demo [PROBLEM]``; without a problem it takes the sample."""

import argparse
import asyncio
import sys

from rich.console import Console

from examples.models import model_from_environment
from examples.terminal import follow, named, shown
from holdfast import Engine, Runtime
from holdfast.agents import Agent
from holdfast.errors import RunFailed

from .workflow import FOUND, NAME, SAMPLE, offline


async def main(problem: str, agent: Agent, console: Console) -> int:
    """Runs the workflow in memory and returns the exit code."""
    console.rule(f"Reason, by {named(agent)}")
    async with Engine("sqlite:///:memory:", runtime=Runtime(agent=agent), observers=()) as engine:
        run = await engine.start(NAME, {"problem": problem})
        await follow(run, console)
        try:
            result = await run.result()
        except RunFailed as error:
            console.print(f"  {error.message}", style="red", highlight=False, soft_wrap=True, markup=False)
            return 1
    console.print()
    console.print(shown(result, "problem", *FOUND.values()))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Think a problem through.")
    parser.add_argument("problem", nargs="?", default=SAMPLE)
    wanted = parser.parse_args().problem
    sys.exit(asyncio.run(main(wanted, model_from_environment("AGENT") or offline(), Console())))
