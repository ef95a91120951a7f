"""The arithmetic: actuals of each ferry line from the monthly figures, scores against targets, and the ranking."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MOST: Final = 120.0
"""No KPI earns more than so many points, however far the target was exceeded."""


@dataclass(frozen=True)
class Kpi:
    """What is measured: the figure `of` over the figure `per`, against a target."""

    name: str
    of: str
    per: str
    target: float
    weight: float
    factor: float = 1.0
    lower_is_better: bool = False

    def actual(self, sums: Mapping[str, float]) -> float:
        return self.factor * sums[self.of] / sums[self.per]

    def score(self, actual: float) -> float:
        """Points: 100 is the target."""
        ratio = self.target / max(actual, 1e-9) if self.lower_is_better else actual / self.target
        return round(min(MOST, 100 * ratio), 1)


KPIS: Final = (
    Kpi("punctuality", "on_time", "trips", target=0.95, weight=0.30),
    Kpi("occupancy", "passengers", "seats", target=0.70, weight=0.20),
    Kpi("incidents", "incidents", "trips", target=1.5, weight=0.20, factor=1000, lower_is_better=True),
    Kpi("fuel", "fuel_l", "km", target=3.5, weight=0.15, lower_is_better=True),
    Kpi("satisfaction", "praise", "answers", target=4.3, weight=0.15),
)


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def problems(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What is wrong with the figures, by line and month."""
    found: list[str] = []
    for row in rows:
        where = f"{row['line']} in {row['month']}"
        figures = {name: float(value) for name, value in row.items() if name not in ("line", "month")}
        if min(figures.values()) < 0:
            found.append(f"{where}: a figure is negative")
        if figures["on_time"] > figures["trips"] or figures["passengers"] > figures["seats"]:
            found.append(f"{where}: more than there were")
    return found


def actuals(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """Each line's KPIs over all of its months."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for name, value in row.items():
            if name not in ("line", "month"):
                sums[row["line"]][name] += float(value)
        # An average of averages would count each month alike, however few had answered.
        sums[row["line"]]["praise"] += float(row["satisfaction"]) * float(row["answers"])
    return {line: {kpi.name: kpi.actual(each) for kpi in KPIS} for line, each in sums.items()}


def scored(found: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {line: {kpi.name: kpi.score(each[kpi.name]) for kpi in KPIS} for line, each in found.items()}


def totals(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Each line's points, weighted."""
    return {line: round(sum(kpi.weight * each[kpi.name] for kpi in KPIS), 2) for line, each in scores.items()}


def ranking(points: Mapping[str, float]) -> list[dict[str, Any]]:
    ordered = sorted(points.items(), key=lambda each: (-each[1], each[0]))
    return [{"rank": rank, "line": line, "points": each} for rank, (line, each) in enumerate(ordered, 1)]
