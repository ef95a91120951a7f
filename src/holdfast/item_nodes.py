"""Nodes that process items: each item is done once for all attempts of its node.

What an item gives is in the journal before the node goes on. After a failure, a crash or a wait for an answer the node
runs again, and calls its function only for the items that had not finished.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from functools import wraps
from typing import Any, Final

from holdfast.core.context import StepContext
from holdfast.errors import PayloadRejected
from holdfast.model.checks import CALLABLE, Kind, instance_of, setting
from holdfast.model.state import State
from holdfast.patterns.chain.results import Items, ParallelResult, fixed_items, items_of
from holdfast.patterns.graph.configs import ChainConfig, ConditionalConfig, ParallelConfig
from holdfast.patterns.graph.nodes import changes_of, learned_of
from holdfast.processing import Progress, process_chain, process_conditional, process_parallel
from holdfast.runtime.calling import call
from holdfast.runtime.threads import Threads

ItemNode = Callable[[State, StepContext], Awaitable[Any]]
"""What the three give to `graph.add_node`."""

_NOT_BETWEEN: Final = Kind(lambda given: not given, "False: the journal has what each item changed")
_ROUTES: Final = instance_of(Mapping, expected='a dict of functions, such as {"large": approve}')


def chain_node(
    items: Items,
    fn: Callable[[Any, State], Any],
    config: ChainConfig | None = None,
    progress: Progress | None = None,
) -> ItemNode:
    """Return a node that gives the state which `fn(item, state)` makes of it, item after item.

    `items` are a list, the key of the state that has them, or a function of the state. `fn` returns what a node may: a
    State, the changed keys, or None; its changes are durable before the next item. The node fails with ChainError
    when an item fails. Raises DefinitionError when there is nothing to iterate over or `fn` is no function.
    """
    given = fixed_items(items)
    setting("chain_node", "fn", fn, CALLABLE)
    if config is not None:
        setting("chain_node", "capture_intermediate_states", config.capture_intermediate_states, _NOT_BETWEEN)

    async def node(state: State, step: StepContext) -> State:
        with closing(Threads("holdfast-chain")) as threads:

            @wraps(fn)
            async def difference(item: Any, before: State) -> dict[str, Any]:
                return _difference(before, await call(threads, fn, item, before))

            async def one(item: Any, before: State) -> State:
                return _applied(before, await step.call(difference, item, before))

            return (await process_chain(items_of(given, state), state, one, config, progress)).final

    return node


def parallel_node(
    items: Items,
    fn: Callable[[Any], Any],
    gather: Callable[[ParallelResult[Any], State], Any],
    config: ParallelConfig | None = None,
    progress: Progress | None = None,
) -> ItemNode:
    """Return a node that calls `fn(item)` for all items in parallel and gives what `gather(result, state)` makes of it.

    `items` are a list, the key of the state that has them, or a function of the state. What `fn` returns for an item
    is durable before its worker goes on; items that finish together share a commit. `result` has the results and the
    errors in the order of the items; with `fail_fast`, the default, the node fails with ParallelError instead of
    gathering errors. Raises DefinitionError when there is nothing to iterate over or a function is none.
    """
    given = fixed_items(items)
    setting("parallel_node", "fn", fn, CALLABLE)
    setting("parallel_node", "gather", gather, CALLABLE)

    async def node(state: State, step: StepContext) -> Any:
        async def one(item: Any) -> Any:
            return await step.call(fn, item)

        result = await process_parallel(items_of(given, state), one, config, progress)
        with closing(Threads("holdfast-parallel")) as threads:
            return await call(threads, gather, result, state)

    return node


def conditional_node(
    predicate: Callable[[State], Any],
    routes: Mapping[str, Callable[[State], Any]],
    default: Callable[[State], Any] | None = None,
    config: ConditionalConfig | None = None,
) -> ItemNode:
    """Return a node that gives what the handler makes of the state whose route `predicate(state)` names.

    The route is durable before its handler begins: every attempt takes the same one. The node fails with
    ConditionalError when the predicate or the handler raises, or the route is unknown and there is no default.
    Raises DefinitionError when what is given are no functions.
    """
    setting("conditional_node", "predicate", predicate, CALLABLE)
    for name, handler in setting("conditional_node", "routes", routes, _ROUTES).items():
        setting("conditional_node", f"route {name!r}", handler, CALLABLE)
    setting("conditional_node", "default", default, CALLABLE.or_none())

    async def node(state: State, step: StepContext) -> Any:
        async def route(given: State) -> Any:
            return await step.call(predicate, given)

        return await process_conditional(state, route, routes, default, config)

    return node


def _difference(before: State, made: Any) -> dict[str, Any]:
    """Return what a step of a chain changed, to be kept; refuses what is no state, and secrets: they are not kept."""
    after, _ = changes_of(made, before, "a step of the chain")
    if learned_of(made, before.known_secrets()) is not None:
        raise PayloadRejected(
            "a step of the chain changed the secrets of the state", fix="Set secrets in a node of their own."
        )
    mine = before.encoded()
    derived = isinstance(made, State) and made.derived_from(before)
    return {
        "set": {key: made[key] for key, raw in after.items() if mine.get(key) is not raw},
        "gone": [key for key in mine if key not in made] if derived else [],
    }


def _applied(before: State, kept: Mapping[str, Any]) -> State:
    after = before.merge(kept["set"])
    for key in kept["gone"]:
        after = after.delete(key)
    return after


__all__ = ["Items", "chain_node", "conditional_node", "parallel_node"]
