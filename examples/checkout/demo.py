"""The demo: ``python -m examples.checkout.demo``: one order goes through, the next one's payment is declined."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from holdfast import Engine, Run, Runtime

from .shop import Shop
from .workflow import checkout

GOOD, DECLINED = "4000 0000 0000 0077", "4000 0000 0000 0002"


async def order(engine: Engine, shop: Shop, console: Console, card: str) -> Run:
    """Runs one checkout to its end and shows what became of each step, and of the shop."""
    console.print(f"\n[bold]two lanterns, paid with {card}[/bold]")
    before = shop.books()
    params = {"item": "lantern", "pieces": 2, "cents": 5980, "card": card}
    run = await (await engine.start(checkout, params)).wait()
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "status", "result"):
        table.add_column(heading)
    for stage in await run.stages():
        result = stage.error.message if stage.error is not None else stage.output
        table.add_row(stage.name, stage.status.value, "" if result is None else str(result))
    console.print(table)
    if run.error is not None:
        console.print(
            f"{run.status.value}: {run.error.message}; undone: {', '.join(run.error.compensated or ())}"
        )
    console.print(f"the shop before: {before}\nthe shop after:  {shop.books()}", highlight=False)
    return run


async def play(console: Console, folder: Path) -> tuple[Run, Run, Shop]:
    """Runs both orders on a store in the folder."""
    shop = Shop(folder / "shop.db", {"lantern": 10})
    runtime = Runtime(shop=shop, mails=[])
    async with Engine(f"sqlite:///{folder}/runs.db", runtime=runtime, observers=()) as engine:
        good = await order(engine, shop, console, GOOD)
        declined = await order(engine, shop, console, DECLINED)
    return good, declined, shop


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(play(Console(), Path(name)))
