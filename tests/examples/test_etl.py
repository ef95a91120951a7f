"""The ETL: a source that fails is tolerated, what it would have given is a gap; a killed process costs nothing."""

from __future__ import annotations

import io
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from examples.etl import demo, sources
from examples.etl.plot import scale_of
from examples.etl.worker import params
from examples.etl.workflow import NAME, Plug, dag
from holdfast import Engine, Runtime


@pytest.fixture
def rates() -> Iterator[str]:
    """The address of a service that gives exchange rates."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"2000": 1.0, "2001": 0.5}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/rates"
        server.shutdown()
        thread.join()


async def run(url: str, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The result, and for each task how its steps ended."""
    async with Engine(url, runtime=Runtime(plug=Plug()), observers=()) as engine:
        started = await engine.start(NAME, given)
        result = await started.result()
        ends: dict[str, list[str]] = {}
        for stage in await started.stages():
            ends.setdefault(stage.name, []).append(stage.status)
    return result, ends


def test_there_are_eleven_tasks_and_they_fit_together() -> None:
    assert len(dag.topological_sort()) == 11


async def test_a_source_that_is_out_of_reach_leaves_a_gap(url: str, tmp_path: Path) -> None:
    result, ends = await run(url, params(tmp_path))

    assert ends["exchange"] == ["failed"]
    assert "exchange" not in result
    assert ends["dollars_only"] == ["completed"]
    assert "dollars alone" in result["report"]["remark"]
    years = {row["year"]: row for row in result["table"]}
    assert sorted(years) == [str(year) for year in range(2000, 2016)]
    assert {row["shares_eur"] for row in years.values()} == {None}
    assert (years["2010"]["shares"] > 250, years["2015"]["shares"]) == (True, None)
    assert (years["2005"]["jobs"], round(years["2015"]["jobs"])) == (None, 142)
    assert round(years["2012"]["rain"]) == 1226


async def test_a_share_that_is_too_young_is_tolerated(url: str, tmp_path: Path) -> None:
    result, ends = await run(url, params(tmp_path))

    assert sorted(ends["growth"]) == ["completed"] * 4 + ["failed"]
    assert [each["symbol"] for each in result["growth"]] == ["AAPL", "AMZN", "IBM", "MSFT"]
    assert {each["index"]["2000-01"] for each in result["growth"]} == {100}


async def test_with_rates_there_are_euros_and_no_remark(url: str, tmp_path: Path, rates: str) -> None:
    result, ends = await run(url, params(tmp_path, rates))

    assert ends["exchange"] == ["completed"]
    assert "dollars_only" not in ends
    assert result["report"]["remark"] is None
    years = {row["year"]: row for row in result["table"]}
    assert years["2000"]["shares_eur"] == years["2000"]["shares"]
    assert years["2001"]["shares_eur"] == years["2001"]["shares"] / 2
    assert years["2002"]["shares_eur"] is None


async def test_the_warehouse_has_the_table_also_after_a_second_run(url: str, tmp_path: Path) -> None:
    for _ in range(2):
        result, _ends = await run(url, params(tmp_path))

    with closing(sqlite3.connect(tmp_path / "warehouse.db")) as database:
        rows = database.execute("SELECT * FROM years ORDER BY year").fetchall()
    assert rows == [tuple(row.values()) for row in result["table"]]
    with Image.open(result["report"]["picture"]) as picture:
        assert len(picture.convert("RGB").getcolors(100_000) or ()) > 20


def test_the_tables_come_from_the_package_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    assert len(sources.stocks()) == 5
    assert len(sources.employment()) == 120
    assert [len(each["days"]) for each in sources.weather()] == [366, 365, 365, 365]


@pytest.mark.timeout(180)
async def test_the_demo_kills_a_process_and_repeats_nothing(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)

    assert await demo.main(tmp_path, console) == 0

    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "with IBM in hand" in printed
    assert "of these run again: 0" in printed
    assert "GOOG begins in 2004-08" in printed
    assert "one_failed: 1 failed" in printed
    assert (tmp_path / "report.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([39, 311], (0, 400, 100)),
        ([129.7, 143.1], (125, 145, 5)),
        ([7, 7], (7, 7.5, 0.5)),
        ([0, 0], (0, 0.5, 0.5)),
    ],
)
def test_a_scale_is_of_round_numbers(values: list[float], scale: tuple[float, float, float]) -> None:
    assert scale_of(values) == scale
