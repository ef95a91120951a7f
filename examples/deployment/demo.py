"""The demo: ``python -m examples.deployment.demo``.

Four releases of a small site: one goes live, one fails its tests, one is unwell when it is live, one is rolled back by
hand. The site always shows the last release that was well.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from holdfast import Engine, InvalidTransition, Run

from .workflow import deployment


def source(folder: Path, version: str, *, heading: bool = True, status: str = "ok") -> Path:
    """Write the source of a release."""
    made = folder / f"source-{version}"
    made.mkdir()
    title = f"<h1>Release {version}</h1>" if heading else f"Release {version}"
    (made / "index.html").write_text(title, encoding="utf-8")
    (made / "health.json").write_text(json.dumps({"status": status}), encoding="utf-8")
    return made


def shown(site: Path) -> str:
    """Return the front page that visitors see."""
    page = site / "current" / "index.html"
    return page.read_text(encoding="utf-8") if page.exists() else "nothing"


async def resting(run: Run) -> Run:
    """Wait until the run waits for somebody, or has ended."""
    async for _ in run.events():
        await run.refresh()
        if run.completed_at or "event approve" in run.waiting_on:
            break
    return run


async def deploy(engine: Engine, folder: Path, version: str, console: Console, **flaws: Any) -> Run:
    """Start a deployment, and bring it to staging or to its end."""
    params = {"source": str(source(folder, version, **flaws)), "site": str(folder / "site")}
    run = await engine.start(
        deployment, {**params, "version": version, "author": "Ada"}, id=f"deploy-{version}"
    )
    await run.send("start")
    await resting(run)
    state = (await run.state())["state"]
    console.print(f" {run.id}: {state}; visitors see {shown(folder / 'site')}", highlight=False, markup=False)
    return run


async def main(console: Console) -> int:
    """Run the demo and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="deployment-") as place:
        folder = Path(place)
        (folder / "site" / "releases").mkdir(parents=True)
        async with Engine(f"sqlite:///{folder / 'runs.db'}", observers=()) as engine:
            console.rule("1. A release goes live when somebody else than its author approves it")
            run = await deploy(engine, folder, "1", console)
            own = await run.send("approve", {"by": "Ada"})
            console.print(f" Ada approves her own: changed={own.changed}", highlight=False)
            await approve(run, folder, console)
            console.rule("2. A release that fails its tests is rolled back before anybody sees it")
            await deploy(engine, folder, "2", console, heading=False)
            console.rule("3. A release that is unwell when it is live is rolled back at once")
            run = await deploy(engine, folder, "3", console, status="on fire")
            await approve(run, folder, console)
            console.rule("4. A release is rolled back by hand; a misspelt event rolls nothing back")
            run = await deploy(engine, folder, "4", console)
            await approve(run, folder, console)
            try:
                await run.send("rolback")
            except InvalidTransition as refusal:
                console.print(f" {refusal}", style="red", highlight=False)
            await run.send("rollback")
            await run.wait()
            console.print(
                f" rolled back; visitors see {shown(folder / 'site')}", highlight=False, markup=False
            )
            console.rule("5. The deployment, drawn")
            console.print(deployment.to_ascii(), highlight=False, markup=False)
        return 0 if shown(folder / "site") == "<h1>Release 1</h1>" else 1


async def approve(run: Run, folder: Path, console: Console) -> None:
    """Have Grace approve the release, and show what came of it."""
    outcome = await run.send("approve", {"by": "Grace"})
    why = (await run.state())["context"].get("why")
    console.print(
        f" Grace approves: {outcome.state}{f', for {why}' if why else ''}", highlight=False, markup=False
    )
    console.print(f" visitors see {shown(folder / 'site')}", highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Console())))
