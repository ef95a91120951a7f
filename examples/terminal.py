"""What the small examples show in a terminal: each step as it ends, and the result."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from holdfast import Engine, Run, Runtime
from holdfast.agents import Agent, OpenAIAgent
from holdfast.errors import RunFailed


async def run_in_memory(
    workflow: str, params: Mapping[str, Any], agent: Agent, console: Console, *keys: str
) -> int:
    """Runs a workflow in memory, shows its steps and some values of its result, and returns the exit code."""
    async with Engine("sqlite:///:memory:", runtime=Runtime(agent=agent), observers=()) as engine:
        run = await engine.start(workflow, params)
        await follow(run, console)
        result = await result_of(run, console)
    if result is None:
        return 1
    console.print()
    console.print(shown(result, *keys))
    return 0


async def result_of(run: Run, console: Console) -> Mapping[str, Any] | None:
    """Returns the result of a run; prints why there is none."""
    try:
        result: Mapping[str, Any] = await run.result()
    except RunFailed as error:
        console.print(f"  {error.message}", style="red", highlight=False, soft_wrap=True, markup=False)
        return None
    return result


async def follow(run: Run, console: Console, after: int = 0) -> None:
    """Prints a line for each step that ends after a position, until the run ends or waits for somebody."""
    async for event in run.events(after):
        name = escape(str(event.data.get("name", "")))
        match event.type:
            case "stage.completed":
                console.print(
                    f"  [green]✓[/] {name:<12} [dim]{event.data['duration']:.3f} s[/]", highlight=False
                )
            case "stage.retried":
                said = escape(event.data["error"]["message"])
                console.print(f"  [yellow]↻[/] {name:<12} {said}", highlight=False, soft_wrap=True)
            case "stage.failed":
                said = escape(event.data["error"]["message"].partition("\n")[0])
                console.print(f"  [red]✗[/] {name:<12} {said}", highlight=False, soft_wrap=True)
            case "wait.started":
                console.print(f"  [yellow]…[/] {name:<12} [dim]waits for an answer[/]", highlight=False)
                return


def shown(result: Mapping[str, Any], *keys: str) -> Table:
    """Returns a table of some values of a result, one below the other."""
    table = Table(show_header=False, box=None, padding=(0, 2, 1, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key in keys:
        table.add_row(key, escape(str(result[key])))
    return table


def named(agent: Agent) -> str:
    """Returns who answers, for the first line of a demo."""
    return f"{agent.model} at {agent.base_url}" if isinstance(agent, OpenAIAgent) else "a script, offline"
