"""Random DAGs, and a simple model of what their rules come to: how each task ends, and what it gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from holdfast import DAGWorkflow, RetryPolicy
from holdfast.dags import Skip, at_least, branch, short_circuit

RULES: dict[str, Callable[[str], str]] = {
    # How those before ended (S, F, K skipped, U upstream failed) gives R (run), K or U.
    "all_success": lambda e: "U" if {*"FU"} & {*e} else "K" if "K" in e else "R",
    "all_failed": lambda e: "K" if {*"SK"} & {*e} else "R",
    "all_done": lambda _: "R",
    "all_skipped": lambda e: "R" if {*e} == {"K"} else "K",
    "one_success": lambda e: "R" if "S" in e else "K" if {*e} == {"K"} else "U",
    "one_failed": lambda e: "R" if {*"FU"} & {*e} else "K",
    "one_done": lambda e: "R" if {*"SF"} & {*e} else "K",
    "none_failed": lambda e: "U" if {*"FU"} & {*e} else "R",
    "none_failed_min_one_success": lambda e: "U" if {*"FU"} & {*e} else "R" if "S" in e else "K",
    "none_skipped": lambda e: "K" if "K" in e else "R",
    "all_done_min_one_success": lambda e: "R" if "S" in e else "K" if {*e} == {"K"} else "U",
    "always": lambda _: "R",
}


@dataclass
class Drawn:
    """One task: what it does is `ok`, `fail` (until it is mended), `skip`, or a choice; a map has a fate per item."""

    name: str
    before: list[str]
    rule: str
    least: int = 0
    fate: str = "ok"
    gives_list: int = -1
    over: str = ""
    items: list[str] | None = None
    tolerate: float = 0
    batch: int = 1
    limit: int | None = None
    chosen: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_map(self) -> bool:
        return self.items is not None


@dataclass
class Ends:
    """What the model knows of each task: how it ended, what it gave, and its items as those after it count them."""

    how: dict[str, str] = field(default_factory=dict)
    gave: dict[str, Any] = field(default_factory=dict)
    counted: dict[str, str] = field(default_factory=dict)
    ruled_out: set[str] = field(default_factory=set)

    @property
    def results(self) -> dict[str, Any]:
        return {name: self.gave[name] for name, how in self.how.items() if how == "S"}


def draw_tasks(random: Random) -> list[Drawn]:
    tasks: list[Drawn] = []
    for number in range(random.randint(1, 9)):
        names = [task.name for task in tasks]
        before = random.sample(names, min(len(names), random.choice((0, 1, 1, 2, 3))))
        task = Drawn(
            f"t{number}", before, random.choice(list(RULES)) if random.random() < 0.6 else "all_success"
        )
        if before and random.random() < 0.1:
            task.least = random.randint(1, len(before))
        task.fate = random.choice(("ok", "ok", "ok", "fail", "skip"))
        task.gives_list = random.choice((-1, 0, 1, 4))
        task.seconds = random.choice((0.0, 0.1, 1.0, 5.0))
        if random.random() < 0.35:
            _draw_map(random, task)
        tasks.append(task)
    for task in tasks:
        after = [each.name for each in tasks if task.name in each.before]
        if after and not task.is_map and random.random() < 0.3:
            task.fate = random.choice(("branch", "open", "shut"))
            task.chosen = random.sample(after, random.randint(0, len(after)))
    return tasks


def _draw_map(random: Random, task: Drawn) -> None:
    fates = [random.choice(("ok", "ok", "ok", "fail", "skip")) for _ in range(12)]
    task.items = fates
    task.over = random.choice((*task.before, "")) if task.rule != "always" else ""
    if not task.over:
        task.items = fates[: random.randint(0, 6)]
    task.tolerate = random.choice((0, 0, 1, 2, 0.5))
    task.limit = random.choice((None, 1, 2))
    if random.random() < 0.2:
        task.batch, task.items = random.choice((2, 5)), ["ok"] * len(task.items)


def build(tasks: list[Drawn], random: Random, mended: Callable[[], bool]) -> DAGWorkflow:
    """The DAG; what fails does so until `mended` says otherwise."""
    dag = DAGWorkflow(name="drawn", max_parallel=random.choice((None, None, 1, 2, 3)))
    for task in tasks:
        fn: Any = _mapped(task, mended) if task.is_map else _plain(task, mended)
        if task.fate == "branch":
            fn = branch(fn)
        elif task.fate in ("open", "shut"):
            fn = short_circuit(fn)
        over: Any = {"map_over": task.over or list(range(len(task.items or ())))} if task.is_map else {}
        over |= {"tolerate": task.tolerate, "limit": task.limit, "batch": task.batch} if task.is_map else {}
        retry = RetryPolicy(attempts=2, backoff=3) if random.random() < 0.3 else None
        rule: Any = at_least(task.least) if task.least else task.rule
        dag.add_task(
            task.name,
            fn,
            depends_on=task.before,
            trigger_rule=rule,
            priority=random.choice((0, 0, 1)),
            retry=retry,
            **over,
        )
    return dag


def _plain(task: Drawn, mended: Callable[[], bool]) -> Any:
    async def run(*_: Any) -> Any:
        await asyncio.sleep(task.seconds)
        if task.fate == "fail" and not mended():
            raise ValueError(task.name)
        if task.fate == "skip":
            raise Skip
        return _given(task)

    return run


def _given(task: Drawn) -> Any:
    if task.fate == "branch":
        return task.chosen
    if task.fate in ("open", "shut"):
        return task.fate == "open"
    return task.name if task.gives_list < 0 else list(range(task.gives_list))


def _mapped(task: Drawn, mended: Callable[[], bool]) -> Any:
    async def run(item: int, *_: Any) -> int:
        await asyncio.sleep(task.seconds)
        fate = _fate(task, item)
        if fate == "fail" and not mended():
            raise ValueError(f"{task.name}: {item}")
        if fate == "skip":
            raise Skip
        return item

    return run


def _fate(task: Drawn, item: Any) -> str:
    """What becomes of an item; those of a branch are names."""
    return task.items[item % len(task.items)] if isinstance(item, int) and task.items else "ok"


def expected(tasks: list[Drawn], *, mended: bool = False, before: Ends | None = None) -> Ends:
    """How each task ends; after a resume (`mended`) what ran stays, and what failures kept from running is judged."""
    ends = Ends()
    touched: set[str] = set()
    for task in tasks:
        name = task.name
        after_failure = bool(touched & {*task.before, task.over})
        was = before.how[name] if before is not None else ""
        stays = (
            was == "S" or (was in ("K", "U") and (name not in before.ruled_out or not after_failure))
            if before
            else False
        )
        if was == "F" or after_failure:
            touched.add(name)
        if before is not None and stays:
            ends.how[name], ends.counted[name] = was, before.counted[name]
            if name in before.gave:
                ends.gave[name] = before.gave[name]
            if name in before.ruled_out:
                ends.ruled_out.add(name)
            continue
        if was == "F" and not after_failure:
            _run(task, ends, mended=mended)
            continue
        verdict = _verdict(tasks, task, ends)
        if verdict == "R":
            _run(task, ends, mended=mended)
        else:
            ends.how[name] = ends.counted[name] = verdict
            ends.ruled_out.add(name)
    return ends


def _verdict(tasks: list[Drawn], task: Drawn, ends: Ends) -> str:
    if _is_cut_off(tasks, task, ends):
        return "K"
    before = list(dict.fromkeys([*task.before, *([task.over] if task.over else [])]))
    how = "".join(ends.counted[name] for name in before)
    if not before:
        verdict = "R"
    elif task.least:
        enough = how.count("S") >= task.least
        verdict = "R" if enough else "U" if {*"FU"} & {*how} else "K"
    else:
        verdict = RULES[task.rule](how)
    if verdict == "R" and task.over:
        producer = next(each for each in tasks if each.name == task.over)
        status = ends.how[task.over]
        if status == "K":
            return "K"
        if status == "U" or (status == "F" and (not producer.is_map or task.over not in ends.gave)):
            return "U"
    return verdict


def _is_cut_off(tasks: list[Drawn], task: Drawn, ends: Ends) -> bool:
    """Whether a choice before the task left it out; one that always runs began before it could."""
    if task.rule == "always" and not task.least:
        return False
    for choice in tasks:
        if (
            choice.fate == "shut"
            and ends.how.get(choice.name) == "S"
            and task.name in _after(tasks, {choice.name})
        ):
            return True
        if choice.fate == "branch" and ends.how.get(choice.name) == "S" and choice.name in task.before:
            chosen = {*choice.chosen}
            if task.name not in chosen | _after(tasks, chosen):
                return True
    return False


def _after(tasks: list[Drawn], names: set[str]) -> set[str]:
    found: set[str] = set()
    for task in tasks:
        if {*task.before, task.over} & (names | found):
            found.add(task.name)
    return found


def _run(task: Drawn, ends: Ends, *, mended: bool) -> None:
    name = task.name
    if not task.is_map:
        how = {"fail": "S" if mended else "F", "skip": "K"}.get(task.fate, "S")
        ends.how[name] = ends.counted[name] = how
        if how == "S":
            ends.gave[name] = _given(task)
        return
    items = ends.gave.get(task.over) if task.over else list(range(len(task.items or ())))
    if not isinstance(items, list):
        ends.how[name] = ends.counted[name] = "F"
        return
    fates = [_fate(task, item) for item in items]
    if mended:
        fates = ["ok" if fate == "fail" else fate for fate in fates]
    lost = fates.count("fail")
    allowed = task.tolerate if isinstance(task.tolerate, int) else int(task.tolerate * len(items))
    ends.gave[name] = [item for item, fate in zip(items, fates, strict=True) if fate == "ok"]
    counted = "S" * fates.count("ok") + "F" * (lost if lost > allowed else 0) + "K" * fates.count("skip")
    ends.counted[name] = counted or "S"
    if lost > allowed:
        ends.how[name] = "F"
    else:
        ends.how[name] = "K" if fates and {*fates} == {"skip"} else "S"


def fails(tasks: list[Drawn], ends: Ends) -> bool:
    """Whether the run has failed: a task that none depends on failed, or could not run for a failure."""
    needed = {name for task in tasks for name in (*task.before, task.over)}
    return any(ends.how[task.name] in ("F", "U") for task in tasks if task.name not in needed)
