"""The DAG: four sources, maps over what they give, joins that tolerate what is missing, a table, a report."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import mean
from typing import Any, Final

import httpx

from holdfast import DAGWorkflow, RetryPolicy, StepContext, Task, register

from .plot import Panel, draw
from .sources import FIRST_MONTH, employment, exchange, stocks, weather

NAME: Final = "etl"

COLUMNS: Final = ("year", "shares", "shares_eur", "jobs", "warmest", "rain")

Row = dict[str, Any]


class Plug:
    """Kills its own process, as a power cut would, when the share of this name is taken in hand."""

    def __init__(self, symbol: str | None = None) -> None:
        self.symbol = symbol

    def pull(self, symbol: str) -> None:
        if symbol == self.symbol:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def growth(stock: Row, step: StepContext) -> Row:
    """Returns a share's price by month, 100 at the beginning; refuses one that is younger."""
    step.runtime.plug.pull(stock["symbol"])
    prices = stock["prices"]
    begin = min(prices)
    if begin > FIRST_MONTH:
        raise ValueError(f"{stock['symbol']} begins in {begin}, after {FIRST_MONTH}")
    index = {month: 100 * price / prices[begin] for month, price in prices.items()}
    return {"symbol": stock["symbol"], "index": index}


def market(growths: Sequence[Row]) -> dict[str, float]:
    """Returns the mean of all shares by month."""
    return {month: mean(each["index"][month] for each in growths) for month in growths[0]["index"]}


def climate(weather: Row) -> Row:
    """Returns a year's rain in mm and the mean of the highest temperatures by month."""
    by_month: dict[str, list[float]] = {}
    for day in weather["days"]:
        by_month.setdefault(day["day"][:7], []).append(day["temp_max"])
    return {
        "year": weather["year"],
        "rain": sum(day["precipitation"] for day in weather["days"]),
        "warmth": {month: mean(highest) for month, highest in by_month.items()},
    }


def dollars_only() -> str:
    """Returns the remark of a report that has no exchange rates."""
    return "The exchange rates could not be had; prices are in dollars alone."


def table(
    market: dict[str, float] | None,
    employment: dict[str, float] | None,
    climate: list[Row] | None,
    exchange: dict[str, float] | None,
) -> list[Row]:
    """Returns a row for each year; what a failed source would have given is None."""
    shares, jobs = yearly(market), yearly(employment)
    rain = {each["year"]: each["rain"] for each in climate or ()}
    warmest = {each["year"]: max(each["warmth"].values()) for each in climate or ()}
    rates = exchange or {}
    first = rates.get(FIRST_MONTH[:4])
    euros = {year: value * rates[year] / first for year, value in shares.items() if first and year in rates}
    columns = dict(zip(COLUMNS[1:], (shares, euros, jobs, warmest, rain), strict=True))
    years = sorted(set().union(*columns.values()))
    return [{"year": year} | {name: known.get(year) for name, known in columns.items()} for year in years]


def yearly(months: Mapping[str, float] | None) -> dict[str, float]:
    by_year: dict[str, list[float]] = {}
    for month, value in (months or {}).items():
        by_year.setdefault(month[:4], []).append(value)
    return {year: mean(values) for year, values in by_year.items()}


def load(table: list[Row], warehouse: str) -> int:
    """Writes the rows into a SQLite file in one transaction, over those that are there; so twice does no harm."""
    with closing(sqlite3.connect(warehouse)) as database, database:
        database.execute(
            f"CREATE TABLE IF NOT EXISTS years ({COLUMNS[0]} PRIMARY KEY, {', '.join(COLUMNS[1:])})"
        )
        database.executemany(
            f"INSERT OR REPLACE INTO years VALUES ({', '.join(f':{name}' for name in COLUMNS)})",  # noqa: S608 - our own names
            table,
        )
    return len(table)


def report(
    market: dict[str, float],
    employment: dict[str, float],
    climate: list[Row],
    dollars_only: str | None,
    picture: str,
) -> Row:
    """Draws the picture; returns where it is, and what is to be said beside it."""
    warmth = {month: degrees for each in climate for month, degrees in each["warmth"].items()}
    draw(
        [
            Panel("shares that are as old as the century, 2000-01 = 100", market),
            Panel("jobs in the United States, million", employment),
            Panel("highest temperature in Seattle, mean of the month, °C", warmth),
        ],
        Path(picture),
    )
    return {"picture": picture, "remark": dollars_only}


dag = DAGWorkflow(
    [
        Task("stocks", stocks),
        Task("employment", employment),
        Task("weather", weather),
        Task("exchange", exchange, retry=RetryPolicy(attempts=3, backoff=0.2, retry_on=(httpx.HTTPError,))),
        Task("growth", growth, map_over="stocks", limit=2, tolerate=1),
        Task("market", market, depends_on=["growth"]),
        Task("climate", climate, map_over="weather"),
        Task("dollars_only", dollars_only, depends_on=["exchange"], trigger_rule="one_failed"),
        Task(
            "table",
            table,
            depends_on=["market", "employment", "climate", "exchange"],
            trigger_rule="all_done_min_one_success",
        ),
        Task("load", load, depends_on=["table"]),
        Task(
            "report",
            report,
            depends_on=["market", "employment", "climate", "dollars_only", "load"],
            trigger_rule="none_failed_min_one_success",
        ),
    ],
    max_parallel=4,
)
register(NAME, dag, "a table and a picture out of four sources", replace=True)
