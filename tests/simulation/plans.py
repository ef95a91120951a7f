"""Random graphs, as plain descriptions that both the engine (through `build`) and the model can follow."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Any, TypedDict

from holdfast import END, START, RetryPolicy, StateGraph
from holdfast.patterns.graph.configs import GraphConfig
from holdfast.patterns.graph.edges import Send
from tests.simulation.effects import Effects


def most(left: int, right: int) -> int:
    return max(left, right)


def schema(plan: Plan) -> Any:
    """The state: `log`, `total` and `most` may be written by many nodes of a round, the others by one."""
    keys: dict[str, Any] = {
        "log": Annotated[list[str], operator.add],
        "total": Annotated[int, operator.add],
        "most": Annotated[int, most],
        "clash": int,
    }
    for node in plan.nodes:
        keys |= {f"n_{node.name}": int, f"k_{node.name}": int | str}
    return TypedDict("Shape", keys, total=False)  # type: ignore[operator]  # a type made for this plan


MODULUS = 1_000_003


@dataclass(frozen=True)
class Test:
    """A predicate on the state: `key` modulo `modulus` is below `below`."""

    key: str
    modulus: int
    below: int

    __test__ = False  # nothing for pytest

    def __call__(self, state: Mapping[str, Any]) -> bool:
        return int(state.get(self.key, 0)) % self.modulus < self.below


@dataclass(frozen=True)
class Below:
    """A predicate that bounds a cycle: the node ran fewer than `bound` times."""

    key: str
    bound: int

    def __call__(self, state: Mapping[str, Any]) -> bool:
        return int(state.get(self.key, 0)) < self.bound


@dataclass(frozen=True)
class Fan:
    """A router that sends `least` to `least + spread` items to `worker`, or goes to `otherwise` when there are none."""

    worker: str
    otherwise: str
    least: int
    spread: int

    def items(self, state: Mapping[str, Any]) -> list[int]:
        count = self.least + int(state["total"]) % (self.spread + 1)
        return [int(state["total"]) + index for index in range(count)]

    def __call__(self, state: Mapping[str, Any]) -> Any:
        return [Send(self.worker, {"item": item}) for item in self.items(state)] or self.otherwise


@dataclass(frozen=True)
class Choice:
    """A router that returns some of its targets."""

    targets: tuple[str, ...]
    several: bool

    def chosen(self, state: Mapping[str, Any]) -> list[str]:
        number = int(state["total"])
        if not self.several:
            return [self.targets[number % len(self.targets)]]
        return [t for index, t in enumerate(self.targets) if number >> index & 1] or [self.targets[0]]

    def __call__(self, state: Mapping[str, Any]) -> list[str]:
        return self.chosen(state)


@dataclass
class NodePlan:
    name: str
    weight: int
    seconds: float = 0.0
    failures: int = 0
    slow: int = 0
    broken: bool = False
    plain: bool = False
    retry: RetryPolicy | None = None
    timeout: float | None = None
    fanned: bool = False
    clashes: bool = False
    large: bool = False
    removes: str = ""
    calls: int = 0
    asks: bool = False
    defer: bool = False
    patience: float | None = None
    inner: Plan | None = None
    """The graph that the node is, if it is one."""

    @property
    def question(self) -> str:
        """What the node asks; anybody may answer with its weight."""
        return f"weight of {self.name}"

    def changes(self, state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """What the node does to the state: (changed keys, removed keys). All that a result may depend on."""
        seen = int(state.get("item", state.get("total", 0)))
        value = (seen * 31 + self.weight) % MODULUS
        changed: dict[str, Any] = {"log": [f"{self.name}:{value}"], "total": value % 97, "most": value}
        if not self.fanned:
            changed[f"n_{self.name}"] = int(state.get(f"n_{self.name}", 0)) + 1
            changed[f"k_{self.name}"] = "x" * 70_000 if self.large else value
        if self.clashes:
            changed["clash"] = value
        return changed, [self.removes] if self.removes in state else []


@dataclass
class Plan:
    nodes: list[NodePlan] = field(default_factory=list)
    edges: list[tuple[str, str, Any]] = field(default_factory=list)
    joins: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    routers: list[tuple[str, Any, tuple[str, ...]]] = field(default_factory=list)
    max_iterations: int = 1000

    def node(self, name: str) -> NodePlan:
        return next(node for node in self.nodes if node.name == name)

    def all_nodes(self) -> Iterator[NodePlan]:
        """Also those of graphs that nodes are."""
        for node in self.nodes:
            yield node
            if node.inner is not None:
                yield from node.inner.all_nodes()


FIRST: dict[str, Any] = {"total": 1, "log": ["start"]}


def build(plan: Plan, name: str, effects: Effects) -> StateGraph:
    """The plan as a graph whose nodes tell `effects` what they do."""
    graph = StateGraph(name, schema(plan), GraphConfig(max_iterations=plan.max_iterations))
    for node in plan.nodes:
        options: dict[str, Any] = {"retry": node.retry, "timeout": node.timeout, "defer": node.defer}
        inner = None if node.inner is None else build(node.inner, f"in {node.name}", effects)
        graph.add_node(node.name, inner or effects.node(node), **options)
    for source, target, when in plan.edges:
        graph.add_edge(source, target, when=when)
    for source, router, targets in plan.routers:
        graph.add_conditional_edge(source, router, list(targets))
    for sources, target in plan.joins:
        graph.add_edge(list(sources), target)
    return graph


# --- making plans


class Planner:
    """Draws a plan: segments one after another, from START to END."""

    def __init__(self, random: Random, size: int, within: str = "") -> None:
        self.random = random
        self.plan = Plan()
        self._left = size
        self._within = within

    def draw(self) -> Plan:
        segments = (
            self._chain,
            self._chain,
            self._parallel,
            self._conditional,
            self._fan,
            self._cycle,
            self._choice,
        )
        last: str | None = None
        while self._left > 0:
            entry, leaving = self.random.choice(segments)()
            self.plan.edges.append((START if last is None else last, entry, None))
            last = leaving
        assert last is not None
        self.plan.edges.append((last, END, None))
        if self.random.random() < 0.03 and not self._within:
            self.plan.max_iterations = self.random.randint(1, 6)
        return self.plan

    def _node(self, *, fanned: bool = False) -> str:
        random = self.random
        self._left -= 1
        node = NodePlan(f"{self._within}n{len(self.plan.nodes)}", random.randrange(1000), fanned=fanned)
        node.plain = random.random() < 0.2
        node.seconds = 0.0 if node.plain or random.random() < 0.2 else random.choice((0.01, 0.2, 1.0, 3.0))
        node.large = random.random() < 0.02
        if random.random() < 0.1 and self.plan.nodes and not self._within:
            node.removes = f"k_{random.choice(self.plan.nodes).name}"
        if random.random() < 0.25:
            self._unreliable(node)
        node.broken = random.random() < 0.04
        if not node.plain and random.random() < 0.1:
            node.calls = random.randint(1, 3)
        if random.random() < 0.08:
            node.asks, node.patience = True, random.choice((None, None, 0.5, 20.0))
        self.plan.nodes.append(node)
        if not fanned and len(self._within) < 4 and random.random() < 0.06:
            self._nest(node)
        return node.name

    def _nest(self, node: NodePlan) -> None:
        """Make the node a graph. What it shares with the one around it are the reduced keys."""
        random = self.random
        node.inner = Planner(random, random.randint(1, 3), f"{node.name}-").draw()
        node.broken, node.removes, node.clashes = False, "", False
        node.retry = random.choice((None, RetryPolicy(attempts=3, backoff=random.choice((0.0, 0.5, 4.0)))))
        node.timeout = random.choice((None, None, None, 1.0, 30.0))
        node.asks, node.calls = False, 0

    def _count(self, node: NodePlan) -> None:
        """Have the node count its rounds, which a graph does not."""
        if node.inner is not None:
            node.inner, node.retry, node.timeout = None, None, None
            node.failures = node.slow = 0

    def _unreliable(self, node: NodePlan) -> None:
        random = self.random
        node.failures = random.randint(0, 2)
        if node.seconds and random.random() < 0.4:
            node.timeout, node.slow = node.seconds * 2 + 0.5, random.randint(0, 2)
        node.retry = RetryPolicy(
            attempts=node.failures + node.slow + random.randint(1, 2),
            backoff=random.choice((0.0, 0.1, 0.9, 1.5, 8.0)),
            factor=random.choice((1.0, 2.0)),
            jitter=random.choice(("full", "equal", "none")),
        )

    def _chain(self) -> tuple[str, str]:
        names = [self._node() for _ in range(self.random.randint(1, 3))]
        self._link(names)
        return names[0], names[-1]

    def _link(self, names: Sequence[str]) -> None:
        self.plan.edges += [(left, right, None) for left, right in itertools.pairwise(names)]

    def _parallel(self) -> tuple[str, str]:
        entry, last = self._node(), None
        ends = []
        for _ in range(self.random.randint(2, 4)):
            branch = [self._node() for _ in range(self.random.choice((1, 1, 1, 2, 3)))]
            self._link([entry, *branch])
            ends.append(branch[-1])
        if self.random.random() < 0.03 and not self._within:
            for name in ends[:2]:
                self.plan.node(name).clashes = self.plan.node(name).inner is None
        last = self._node()
        if self.random.random() < 0.7:
            self.plan.joins.append((tuple(ends), last))
        else:
            self.plan.edges += [(end, last, None) for end in ends]
            self.plan.node(last).defer = self.random.random() < 0.5
        return entry, last

    def _conditional(self) -> tuple[str, str]:
        entry, left, right, last = (self._node() for _ in range(4))
        test = Test(self.random.choice(("total", "most")), self.random.randint(2, 4), 1)
        self.plan.edges += [
            (entry, left, test),
            (entry, right, None),
            (left, last, None),
            (right, last, None),
        ]
        return entry, last

    def _choice(self) -> tuple[str, str]:
        entry, left, right, last = (self._node() for _ in range(4))
        router = Choice((left, right), self.random.random() < 0.5)
        self.plan.routers.append((entry, router, (left, right)))
        self.plan.edges += [(left, last, None), (right, last, None)]
        return entry, last

    def _fan(self) -> tuple[str, str]:
        entry, worker, last = self._node(), self._node(fanned=True), self._node()
        fan = Fan(worker, last, self.random.choice((0, 1, 3)), self.random.choice((0, 2, 5)))
        self.plan.routers.append((entry, fan, (worker, last)))
        self.plan.edges.append((worker, last, None))
        return entry, last

    def _cycle(self) -> tuple[str, str]:
        names = [self._node() for _ in range(self.random.randint(1, 3))]
        self._link(names)
        last = self._node()
        self._count(self.plan.node(names[-1]))
        bound = Below(f"n_{names[-1]}", self.random.randint(2, 4))
        self.plan.edges += [(names[-1], names[0], bound), (names[-1], last, None)]
        return names[0], last


def draw_plan(random: Random, size: int = 8) -> Plan:
    return Planner(random, random.randint(1, size)).draw()
