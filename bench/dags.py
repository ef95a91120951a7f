"""The DAGs of the benchmark, for every engine alike: the names of tasks and what each depends on."""

from __future__ import annotations

NEIGHBOURS = (-1, 0, 1)
SIZES = {"independent": 1_000, "chain": 1_000, "layers": 100, "map": 10_000}
"""How many tasks, items, or layers as wide as they are many."""
QUICK_SIZES = {"independent": 200, "chain": 100, "layers": 10, "map": 500}
"""For the peers, in a first look."""

Shape = list[tuple[str, tuple[str, ...]]]


def shape(name: str, size: int) -> Shape:
    """The tasks of a DAG, each after those that it depends on; a map is no shape."""
    match name:
        case "independent":
            return [(f"t{number}", ()) for number in range(size)]
        case "chain":
            return [(f"t{number}", (f"t{number - 1}",) if number else ()) for number in range(size)]
        case "layers":
            return [
                (f"t{layer}_{place}", _before(layer, place, size))
                for layer in range(size)
                for place in range(size)
            ]
        case _:
            message = f"no shape {name}"
            raise ValueError(message)


def tasks_of(name: str, size: int) -> int:
    return size * size if name == "layers" else size


def expected(name: str, size: int) -> int:
    """The sum of all results, where a task returns 1 and what those before it returned, and an item its double."""
    if name == "map":
        return size * (size - 1)
    results: dict[str, int] = {}
    for task, before in shape(name, size):
        results[task] = work(*(results[other] for other in before))
    return sum(results.values())


def work(*before: int) -> int:
    """What a task does. Capped, so that no number grows with the layers."""
    return min(1 + sum(before), 1_000_000)


def _before(layer: int, place: int, width: int) -> tuple[str, ...]:
    """The three nearest of the layer before."""
    if not layer:
        return ()
    return tuple(dict.fromkeys(f"t{layer - 1}_{(place + step) % width}" for step in NEIGHBOURS))


def check(total: int, name: str, size: int) -> None:
    if total != expected(name, size):
        message = f"{name} of {size}: the results sum up to {total}, not {expected(name, size)}"
        raise RuntimeError(message)
