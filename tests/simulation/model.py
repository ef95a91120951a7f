"""What a plan comes to, by a plain interpreter that knows nothing of facts, commits or time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from holdfast import END, START
from tests.simulation.forks import Cut
from tests.simulation.plans import FIRST, Choice, Fan, NodePlan, Plan, most


@dataclass(frozen=True)
class Completed:
    state: dict[str, Any]
    steps: int


@dataclass(frozen=True)
class Failed:
    code: str
    node: str = ""


Item = tuple[str, dict[str, Any] | None]


def expected(
    plan: Plan, *, mended: bool = True, cut: Cut | None = None, first: dict[str, Any] | None = None
) -> Completed | Failed:
    """Run the plan in memory; broken nodes fail unless they are mended. A `cut` changes the state on the way."""
    order = {node.name: index for index, node in enumerate(plan.nodes)}
    state, ended, ran, rounds = _first(cut) if first is None else dict(first), [START], 0, 0
    arrived: dict[int, set[str]] = {}
    deferred: list[str] = []
    visits: Counter[str] = Counter()
    while True:
        here = cut is not None and cut.began and cut.rounds == rounds
        if cut is not None and here and not cut.scheduled:
            state |= cut.changes
        wanted = _chosen(plan, state, ended, arrived)
        items = _undeferred(plan, [item for item in wanted if item[0] != END], deferred)
        if not items:
            return Completed(state, ran) if wanted else Failed("edge_failed")
        items.sort(key=lambda item: order[item[0]])
        ran, rounds = ran + len(items), rounds + 1
        if rounds > plan.max_iterations:
            return Failed("max_iterations")
        inner = {name: _inner(plan.node(name), state, mended=mended) for name, _ in items}
        ran += sum(found.steps for found in inner.values() if isinstance(found, Completed))
        broken = [
            name
            for name, _ in items
            if (plan.node(name).broken and not mended) or isinstance(inner[name], Failed)
        ]
        if broken:
            # One that waits when another fails is cancelled, and never comes to its own failure.
            waits = any(_may_wait(plan.node(name)) for name in broken)
            return Failed("step_failed", "" if waits and len(broken) > 1 else broken[0])
        visits.update(name for name, _ in items)
        merged = _merged(
            plan, state, items, cut if here and cut is not None and cut.scheduled else None, visits
        )
        if merged is None:
            return Failed("write_conflict")
        state = merged
        ended = list(dict.fromkeys(name for name, _ in items))


def _undeferred(plan: Plan, items: list[Item], deferred: list[str]) -> list[Item]:
    """What runs now; what waits until nothing else is wanted is kept in `deferred`."""
    for name, _ in items:
        if plan.node(name).defer and name not in deferred:
            deferred.append(name)
    others = [item for item in items if not plan.node(item[0]).defer]
    if others or not deferred:
        return others
    now: list[Item] = [(name, None) for name in deferred]
    deferred.clear()
    return now


SHARED = ("log", "total", "most", "clash")
"""The keys that a graph and one within it both know."""


def _inner(node: NodePlan, state: dict[str, Any], *, mended: bool = True) -> Completed | Failed | None:
    """What the graph of a node comes to; None when it is a function."""
    if node.inner is None:
        return None
    given = {key: state[key] for key in SHARED if key in state}
    return expected(node.inner, mended=mended, first=given)


def _may_wait(node: NodePlan) -> bool:
    return node.asks or node.retry is not None


def _written(state: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """What a graph within another one writes: of a list the rest, of the other keys what it changed."""
    written = {key: result[key] for key in SHARED if key in result and result[key] != state.get(key)}
    if "log" in written:
        written["log"] = result["log"][len(state["log"]) :]
    return written


def _first(cut: Cut | None) -> dict[str, Any]:
    """The state that the run begins with; what is changed before that is reduced like any other state."""
    if cut is None or cut.began or cut.scheduled:
        return dict(FIRST)
    total = FIRST["total"] + cut.changes.get("total", 0)
    return {**cut.changes, **FIRST, "total": total}


def _merged(
    plan: Plan, state: dict[str, Any], items: list[Item], cut: Cut | None, visits: Counter[str]
) -> dict[str, Any] | None:
    """The state after a round; None when two nodes wrote one key. Steps that had ended at a cut saw no change."""
    changed_state = state if cut is None else {**state, **cut.changes}
    after = dict(changed_state)
    writers: dict[str, int] = {}
    left = Counter(name for name, _ in items)
    for index, (name, payload) in enumerate(items):
        left[name] -= 1
        ended = cut is not None and f"{name}#{visits[name] - left[name]}" in cut.done
        seen = state if ended else changed_state
        changed, gone = plan.node(name).changes(seen if payload is None else payload)
        if isinstance(within := _inner(plan.node(name), seen), Completed):
            changed, gone = _written(seen, within.state), []
        for key, value in changed.items():
            if key == "log":
                after[key] = after.get(key, []) + value
            elif key == "total":
                after[key] = after.get(key, 0) + value
            elif key == "most":
                after[key] = most(after[key], value) if key in after else value
            elif writers.setdefault(key, index) != index:
                return None
            else:
                after[key] = value
        for key in gone:
            if writers.setdefault(key, index) != index:
                return None
            after.pop(key, None)
    return after


def _chosen(plan: Plan, state: dict[str, Any], ended: list[str], arrived: dict[int, set[str]]) -> list[Item]:
    """What follows the nodes that ended: each target once, and each item of a fan-out."""
    targets: list[str] = []
    items: list[Item] = []
    for number, (sources, _) in enumerate(plan.joins):
        arrived.setdefault(number, set()).update(set(ended) & set(sources))
    for source in ended:
        ways = [(target, when) for origin, target, when in plan.edges if origin == source]
        if all(when is None for _, when in ways):
            targets += [target for target, _ in ways]
        else:
            held = [target for target, when in ways if when is not None and when(state)]
            targets.append(held[0] if held else next(target for target, when in ways if when is None))
        for origin, router, _ in plan.routers:
            if origin == source and isinstance(router, Choice):
                targets += router.chosen(state)
            elif origin == source and isinstance(router, Fan):
                found: list[Item] = [(router.worker, {"item": item}) for item in router.items(state)]
                items += found
                targets += [] if found else [router.otherwise]
        targets += [
            t for n, (sources, t) in enumerate(plan.joins) if source in sources and arrived[n] == set(sources)
        ]
    unique = list(dict.fromkeys(targets))
    for number, (_, target) in enumerate(plan.joins):
        if target in unique:
            arrived[number] = set()
    return [*((target, None) for target in unique), *items]
