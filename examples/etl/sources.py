"""What is extracted: three tables that the package vega_datasets ships, and a service that gives exchange rates."""

from __future__ import annotations

from typing import Any

import httpx
from vega_datasets import local_data  # reads the package's own files, and nothing from the network

FIRST_MONTH = "2000-01"


def stocks() -> list[dict[str, Any]]:
    """Returns for each share its price in dollars by month."""
    table = local_data.stocks()
    table["month"] = table.date.dt.strftime("%Y-%m")
    return [
        {"symbol": symbol, "prices": dict(zip(rows.month, rows.price.tolist(), strict=True))}
        for symbol, rows in table.groupby("symbol")
    ]


def employment() -> dict[str, float]:
    """Returns how many million jobs there were in the United States by month, farms left out."""
    table = local_data.us_employment()
    return {month[:7]: jobs / 1000 for month, jobs in zip(table.month, table.nonfarm.tolist(), strict=True)}


def weather() -> list[dict[str, Any]]:
    """Returns for each year what was measured in Seattle day by day."""
    table = local_data.seattle_weather()
    table["day"] = table.date.dt.strftime("%Y-%m-%d")
    columns = ["day", "temp_max", "precipitation"]
    return [
        {"year": str(year), "days": rows[columns].to_dict("records")}
        for year, rows in table.groupby(table.date.dt.year)
    ]


async def exchange(exchange_url: str) -> dict[str, float]:
    """Returns how many euros a dollar was worth by year, from a service that may be out of reach."""
    async with httpx.AsyncClient(timeout=2) as http:
        answer = await http.get(exchange_url)
    answer.raise_for_status()
    return {str(year): float(rate) for year, rate in answer.json().items()}
