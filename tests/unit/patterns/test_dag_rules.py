"""Trigger rules: the vectors of Airflow's table, and that a verdict does not depend on who ends first."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from holdfast import DefinitionError
from holdfast.patterns.dag.rules import RULES, Join, Tally, Verdict, at_least, judge_of

LETTERS = "SFKU."
"""Succeeded, failed, skipped, upstream failed, not ended."""


def tally(letters: str) -> Tally:
    return Tally(*(letters.count(letter) for letter in LETTERS))


@pytest.mark.parametrize(
    ("rule", "letters", "verdict"),
    [
        *(("all_success", each, "run") for each in ("S", "SS")),
        ("all_success", "SK", "skipped"),
        *(("all_success", each, "upstream_failed") for each in ("SF", "KF", "F.", "SU")),
        *(("all_success", each, "") for each in ("S.", "K.")),
        *(("all_failed", each, "run") for each in ("FF", "FU")),
        *(("all_failed", each, "skipped") for each in ("FK", "FS", "S.")),
        ("all_failed", "F.", ""),
        *(("all_done", each, "run") for each in ("FKU", "SS", "KK")),
        ("all_done", "S.", ""),
        ("all_skipped", "KK", "run"),
        *(("all_skipped", each, "skipped") for each in ("KS", "F.")),
        *(("one_success", each, "run") for each in ("S.", "SF")),
        ("one_success", "KK", "skipped"),
        ("one_success", "FK", "upstream_failed"),
        ("one_success", "F.", ""),
        *(("one_failed", each, "run") for each in ("F.", "U.", "U")),
        *(("one_failed", each, "skipped") for each in ("SS", "KK")),
        *(("one_done", each, "run") for each in ("F.", "S.")),
        *(("one_done", each, "skipped") for each in ("UU", "KK")),
        *(("none_failed", each, "run") for each in ("SK", "KK")),
        *(("none_failed", each, "upstream_failed") for each in ("SF", "U.")),
        ("none_failed_min_one_success", "SK", "run"),
        ("none_failed_min_one_success", "KK", "skipped"),
        ("none_failed_min_one_success", "K.", ""),
        ("none_failed_min_one_success", "SU", "upstream_failed"),
        ("none_skipped", "SF", "run"),
        *(("none_skipped", each, "skipped") for each in ("SK", "K.")),
        ("none_skipped", "F.", ""),
        *(("all_done_min_one_success", each, "run") for each in ("SF", "SK")),
        ("all_done_min_one_success", "KF", "upstream_failed"),
        ("all_done_min_one_success", "KK", "skipped"),
        *(("always", each, "run") for each in ("..", "F.")),
    ],
)
def test_the_table(rule: str, letters: str, verdict: str) -> None:
    found = judge_of(rule)(tally(letters))
    assert (found.value if found else "") == verdict


def test_there_are_twelve() -> None:
    assert len(RULES) == 12


@pytest.mark.parametrize("rule", [*RULES, at_least(1), at_least(2), at_least(3)], ids=str)
def test_a_verdict_stands_whatever_comes_after_it(rule: str | Join) -> None:
    judge = judge_of(rule)
    for ends in product("SFKU", repeat=3):
        last = judge(tally("".join(ends)))
        assert last is not None, "when all have ended there is a verdict"
        for order in permutations(ends):
            early = [judge(tally("".join(order[:n]) + "." * (3 - n))) for n in range(4)]
            assert {verdict for verdict in early if verdict is not None} == {last}


def test_n_of_m() -> None:
    judge = at_least(2).judge
    assert judge(tally("SS.")) is Verdict.RUN
    assert judge(tally("S..")) is None
    assert judge(tally("FF.")) is Verdict.BLOCK
    assert judge(tally("KK.")) is None, "whether a failure is to blame is not known yet"
    assert judge(tally("KKS")) is Verdict.SKIP
    with pytest.raises(DefinitionError, match="count=0"):
        at_least(0)
