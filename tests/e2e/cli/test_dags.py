"""DAGs on the command line: run, drawn, and run anew from a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cli.calling import Call

MODULE = """
import os
from holdfast import DAGWorkflow

def flaky():
    if not os.path.exists("mended"):
        raise ValueError("blown")
    return "ok"

etl = DAGWorkflow()
etl.add_task("orders", lambda n: list(range(n)))
etl.add_task("cost", lambda item: item * 3, map_over="orders")
etl.add_task("total", lambda cost: sum(cost), depends_on=["cost"])
etl.add_task("load", flaky, depends_on=["total"])
etl.add_task("alarm", lambda: "rung", depends_on=["total"], trigger_rule="one_failed")
"""


@pytest.fixture(autouse=True)
def etl(folder: Path) -> None:
    (folder / "shop.py").write_text(MODULE)


def test_a_dag_is_run_drawn_and_resumed(call: Call, folder: Path) -> None:
    failed = call("run", "shop:etl", "--param", "n=3", "--id", "r")
    assert failed.code == 1
    assert "total  ↛ alarm  skipped, one_failed: 1 succeeded" in failed.out
    drawn = call("graph", "shop:etl", "--run", "r", "--format", "ascii")
    for text in ("cost [ ]", "map 3×", "one_failed", "1 failed"):  # noqa: RUF001 - the sign for "so many times"
        assert text in drawn.out
    assert [task["name"] for task in call("graph", "shop:etl", "--json").document["tasks"]] == [
        *("orders", "cost", "total", "load", "alarm")
    ]
    (folder / "mended").touch()
    assert call("resume", "r", "--app", "shop").code == 0
    assert call("result", "r", "--json").document["load"] == "ok"
    assert [stage["name"] for stage in call("stages", "r", "--json").document].count("cost") == 3


def test_a_task_is_run_anew(call: Call, folder: Path) -> None:
    (folder / "mended").touch()
    assert call("run", "shop:etl", "--param", "n=2", "--id", "r").code == 0
    again = call("rerun", "r", "cost", "--item", "1", "--app", "shop")
    assert again.code == 0
    assert "keeps what r did before cost" in again.out
    made = again.out.split()[1]
    assert call("resume", made, "--app", "shop").code == 0
    assert call("result", made, "--json").document["total"] == 3
    assert call("clear", "r", "cost", "--app", "shop").code == 2
    assert "needs the workflow" in call("rerun", "r", "cost").err


def test_a_failed_run_is_cleared(call: Call, folder: Path) -> None:
    assert call("run", "shop:etl", "--param", "n=2", "--id", "r").code == 1
    (folder / "mended").touch()
    assert "goes on, with total run anew" in call("clear", "r", "total", "--alone", "--app", "shop").out
    assert call("resume", "r", "--app", "shop").code == 0
    stages = call("stages", "r", "--json").document
    assert [(s["name"], s["iteration"], s["attempt"]) for s in stages if s["name"] in ("total", "load")] == [
        *(("total", 1, 1), ("load", 1, 2), ("total", 2, 1))
    ]


def test_a_run_over_time_with_its_critical_path(call: Call, folder: Path) -> None:
    (folder / "mended").touch()
    assert call("run", "shop:etl", "--param", "n=2", "--id", "r").code == 0
    shown = call("gantt", "r", "--app", "shop").out
    for text in ("cost ×2", "its critical path took", "orders -> cost -> total -> load"):  # noqa: RUF001
        assert text in shown
    assert "critical path" not in call("gantt", "r").out
    timing = call("gantt", "r", "--app", "shop", "--json").document["timing"]
    assert timing["critical_path"] == ["orders", "cost", "total", "load"]
