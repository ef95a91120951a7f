"""Results in the cache from the terminal: what took one, why others ran, the list, and clearing, on each store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cli.calling import Call

MODULE = """
from holdfast import CachePolicy, DAGWorkflow

etl = DAGWorkflow(name="etl")
etl.add_task("fetch", lambda day: [day], cache=3600)
etl.add_task("page", lambda n, day: n, map_over=[1, 2], cache=CachePolicy(scope="global"))
etl.add_task("save", lambda fetch: len(fetch), depends_on=["fetch"])
"""


@pytest.fixture(autouse=True)
def module(folder: Path) -> None:
    (folder / "tables.py").write_text(MODULE)


@pytest.mark.usefixtures("each_store")
def test_the_cache_is_seen_and_cleared(call: Call) -> None:
    for name in ("first", "second"):
        assert call("run", "tables:etl", "--param", "day=mon", "--id", name).code == 0
    stages = call("stages", "first").out
    assert "no entry" in stages
    assert "of run first" in call("stages", "second").out
    shown = call("show", "second").out
    assert "from the cache" in shown
    assert "2 from the cache" in shown
    assert "from the cache" in call("events", "second").out
    told = {(each["name"], each["iteration"]): each for each in call("stages", "second", "--json").document}
    assert (told["fetch", 1]["cached"], told["save", 1]["cached"]) == ("first", "")
    for text in ("fetch", "etl", "global", "cleared", "by run"):
        assert text in call("cache").out
    (listed,) = call("cache", "--step", "fetch", "--json").document
    assert (listed["workflow"], listed["scope"], listed["run_id"]) == ("etl", "workflow", "first")
    assert "1 result forgotten" in call("cache", "clear", "--workflow", "etl", "--step", "fetch").out
    assert call("cache", "clear", "--all", "--json").document == {"cleared": 2}
    assert "no such results" in call("cache").out


@pytest.mark.parametrize("words", [["clear"], ["clear", "--all", "--step", "a"], ["drop"]], ids=" ".join)
def test_wrong_use_says_what_to_write(call: Call, words: list[str]) -> None:
    wrong = call("cache", *words)
    assert wrong.code == 2
    assert wrong.err
