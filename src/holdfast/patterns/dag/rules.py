"""Trigger rules: whether a task runs, given how the tasks that it depends on directly have ended.

A verdict is given as soon as it is certain, whatever those that have not ended will come to, and never before: so it
does not depend on who ends first. A failure goes before a skip. Each item of a mapped task counts as one.
(Rules and names are those of Airflow.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NamedTuple

from holdfast.errors import DefinitionError
from holdfast.model.checks import COUNT, setting

RuleName = Literal[
    "all_success",
    "all_failed",
    "all_done",
    "all_skipped",
    "one_success",
    "one_failed",
    "one_done",
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
    "all_done_min_one_success",
    "always",
]


class Verdict(Enum):
    """What becomes of a task."""

    RUN = "run"
    SKIP = "skipped"
    BLOCK = "upstream_failed"


class Tally(NamedTuple):
    """How many of those that a task depends on have ended how; `blocked` are those that a failure kept from running."""

    succeeded: int
    failed: int
    skipped: int
    blocked: int
    waiting: int

    def __str__(self) -> str:
        """Say it in words, what there is none of left out."""
        words = ("succeeded", "failed", "skipped", "kept from running by a failure", "not ended yet")
        return ", ".join(f"{n} {word}" for n, word in zip(self, words, strict=True) if n)


Judge = Callable[[Tally], Verdict | None]


@dataclass(frozen=True, slots=True)
class Join:
    """The rule that `count` of the tasks before succeed; the `rest` is then ignored, or cancelled."""

    count: int
    rest: Literal["ignore", "cancel"] = "ignore"

    def __str__(self) -> str:
        """Name the rule."""
        return f"at_least({self.count})"

    def judge(self, tally: Tally) -> Verdict | None:
        """Return the verdict, None while it is open."""
        if tally.succeeded >= self.count:
            return Verdict.RUN
        if tally.succeeded + tally.waiting >= self.count:
            return None
        return _without_success(tally)


def at_least(count: int, rest: Literal["ignore", "cancel"] = "ignore") -> Join:
    """Return the trigger rule of a task that runs as soon as `count` of those that it depends on have succeeded.

    The rest is ignored: it goes on, and nobody waits for it but the run. With "cancel" it is asked to end, or never
    started, together with what leads to it alone.
    """
    if rest not in ("ignore", "cancel"):
        raise DefinitionError(f"at_least: rest={rest!r} is not allowed", fix='Give "ignore" or "cancel".')
    return Join(setting("at_least", "count", count, COUNT), rest)


def _without_success(tally: Tally) -> Verdict | None:
    """Return what becomes of a task that needs a success and will not get it: a failure goes before a skip."""
    if tally.failed or tally.blocked:
        return Verdict.BLOCK
    return None if tally.waiting else Verdict.SKIP


def _all_success(tally: Tally) -> Verdict | None:
    if tally.failed or tally.blocked:
        return Verdict.BLOCK
    if tally.waiting:
        return None
    return Verdict.SKIP if tally.skipped else Verdict.RUN


def _all_failed(tally: Tally) -> Verdict | None:
    if tally.succeeded or tally.skipped:
        return Verdict.SKIP
    return None if tally.waiting else Verdict.RUN


def _all_done(tally: Tally) -> Verdict | None:
    return None if tally.waiting else Verdict.RUN


def _all_skipped(tally: Tally) -> Verdict | None:
    if tally.succeeded or tally.failed or tally.blocked:
        return Verdict.SKIP
    return None if tally.waiting else Verdict.RUN


def _one_success(tally: Tally) -> Verdict | None:
    if tally.succeeded:
        return Verdict.RUN
    return None if tally.waiting else _without_success(tally)


def _one_failed(tally: Tally) -> Verdict | None:
    if tally.failed or tally.blocked:
        return Verdict.RUN
    return None if tally.waiting else Verdict.SKIP


def _one_done(tally: Tally) -> Verdict | None:
    if tally.succeeded or tally.failed:
        return Verdict.RUN
    return None if tally.waiting else Verdict.SKIP


def _none_failed(tally: Tally) -> Verdict | None:
    if tally.failed or tally.blocked:
        return Verdict.BLOCK
    return None if tally.waiting else Verdict.RUN


def _none_failed_min_one_success(tally: Tally) -> Verdict | None:
    if tally.failed or tally.blocked:
        return Verdict.BLOCK
    if tally.waiting:
        return None
    return Verdict.RUN if tally.succeeded else Verdict.SKIP


def _none_skipped(tally: Tally) -> Verdict | None:
    if tally.skipped:
        return Verdict.SKIP
    return None if tally.waiting else Verdict.RUN


def _all_done_min_one_success(tally: Tally) -> Verdict | None:
    if tally.waiting:
        return None
    return Verdict.RUN if tally.succeeded else _without_success(tally)


def _always(_: Tally) -> Verdict | None:
    return Verdict.RUN


_RULES: Final[dict[str, Judge]] = {
    "all_success": _all_success,
    "all_failed": _all_failed,
    "all_done": _all_done,
    "all_skipped": _all_skipped,
    "one_success": _one_success,
    "one_failed": _one_failed,
    "one_done": _one_done,
    "none_failed": _none_failed,
    "none_failed_min_one_success": _none_failed_min_one_success,
    "none_skipped": _none_skipped,
    "all_done_min_one_success": _all_done_min_one_success,
    "always": _always,
}

RULES: Final = tuple(_RULES)
"""The names of all rules."""

EARLY: Final = frozenset({"all_failed", "all_skipped", "one_success", "one_failed", "one_done"})
"""Rules whose verdict a success may settle while others have not ended."""


def judge_of(rule: str | Join) -> Judge:
    """Return the function that a rule is."""
    return rule.judge if isinstance(rule, Join) else _RULES[rule]


def is_early(rule: str | Join) -> bool:
    """Tell whether one more success may settle the rule before all have ended."""
    return isinstance(rule, Join) or rule in EARLY
