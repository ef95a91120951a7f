"""The KPI pipeline: progress, the saga that gives the old scores back, the machine, and the picture."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from examples.kpi_pipeline import scores
from examples.kpi_pipeline.demo import SAMPLES, play
from examples.kpi_pipeline.workflow import RETRY, assessment
from holdfast import RetryPolicy
from holdfast.core.retries import wait_before_retry

SOON = RetryPolicy(attempts=3, backoff=0.01, jitter="none")


async def test_the_old_scores_come_back_and_the_new_ones_after_a_resume(tmp_path: Path) -> None:
    said = io.StringIO()
    story = await play(Console(file=said, width=200), tmp_path, tmp_path / "ranking.png", assessment(SOON))
    assert story["undone"] == story["before"], "unlocked, with the scores of last year"
    assert story["after"]["published"] == "2026-Q3"
    assert story["after"]["locked_by"] is None
    assert story["after"]["archived"] == {"2026-Q3": story["before"]["scores"]}
    assert story["progress"] == [10, 30, 50, 70, 90, 100]
    assert story["state"] == "ARCHIVED"
    told = said.getvalue()
    assert "Invalid transition: DRAFT -> APPROVE" in told
    assert "the board's portal is closed; undone: archive, lock" in told
    assert told.count("publish: retried") == 2
    assert (tmp_path / "ranking.png").stat().st_size > 5000


def test_three_tries_with_five_seconds_doubling() -> None:
    waits = [wait_before_retry(RETRY, failures, ConnectionError(), 0.5) for failures in (1, 2, 3)]
    assert waits == [5_000_000, 10_000_000, None]


def test_points_are_weighted_and_capped() -> None:
    assert sum(kpi.weight for kpi in scores.KPIS) == pytest.approx(1)
    assert scores.KPIS[0].score(0.95) == 100
    assert scores.KPIS[2].score(0.0) == scores.MOST
    found = scores.actuals(scores.read(SAMPLES))
    assert len(found) == 8
    assert 0.9 < found["Kelp Sound"]["punctuality"] < 1
    ranked = scores.ranking({"b": 1.0, "a": 1.0, "c": 2.0})
    assert [(each["rank"], each["line"]) for each in ranked] == [(1, "c"), (2, "a"), (3, "b")]


def test_impossible_figures_are_named() -> None:
    rows = scores.read(SAMPLES)
    rows[0]["on_time"] = "99999"
    assert scores.problems(rows) == [f"{rows[0]['line']} in 2026-07: more than there were"]
