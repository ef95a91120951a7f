"""The arguments of the commands for when something is wrong: dead letters, circuit breakers, results in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Add = Callable[..., Any]
"""`add_argument` of a parser."""


def letters(add: Add) -> None:
    """Dead letters."""
    actions = ("list", "show", "redrive", "stop", "discard")
    add(
        "action",
        nargs="?",
        choices=actions,
        default="list",
        help="what to do: list, show, redrive, stop a redrive --all, or discard",
    )
    add("run", nargs="*", metavar="RUN", help="the runs' whole ids")
    add(
        "--all",
        action="store_true",
        help="redrive all that match and are there now; Ctrl-C or stop ends it",
    )
    add(
        "--done",
        action="append",
        default=[],
        metavar="STEP",
        help="redrive: somebody has undone this step by hand",
    )
    add(
        "--skip",
        action="append",
        default=[],
        metavar="STEP",
        help="redrive: leave what this step did as it is",
    )
    add("--rate", type=int, default=10, metavar="N", help="redrive at most so many in a second (10)")
    add("--workflow", metavar="NAME", help="only those of this workflow")
    add("--code", metavar="CODE", help="only those that failed with this code, such as step_failed or poison")
    add("--limit", type=int, default=100, metavar="N", help="list at most so many (100)")
    add("--after", metavar="CURSOR", help="list what follows a page, by its `next`")


def breakers(add: Add) -> None:
    """Circuit breakers."""
    add(
        "action",
        nargs="?",
        choices=("list", "open", "disable", "close"),
        default="list",
        help="list; let nothing through (open) or all (disable) until told otherwise; go on by itself (close)",
    )
    add("name", nargs="*", metavar="NAME", help="the breakers' names")


def cache(add: Add) -> None:
    """Results in the cache."""
    add("action", nargs="?", choices=("list", "clear"), default="list", help="list, or clear: forget results")
    add("--workflow", metavar="NAME", help="only those of this workflow")
    add("--step", metavar="NAME", help="only those of a node or task of this name")
    add("--scope", choices=("run", "workflow", "global"), help="only those of this scope")
    add("--all", action="store_true", help="clear: everything")
    add("--limit", type=int, default=100, metavar="N", help="list at most so many (100)")
