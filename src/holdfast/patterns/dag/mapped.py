"""A mapped task while its items run: how many there are, which have begun, and how each ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from holdfast.model.facts import NOTHING, ErrorInfo

Span = tuple[int, int]
"""The first item of a step, and how many it has; 0 stands for one item that is no batch."""


class Mapped(msgspec.Struct, gc=False):
    """The items of one mapped task. `base` is how many steps the task had before it began to map.

    `next` is the first item that has no step yet, `again` are items that shall run once more. Results and errors are
    by first item.
    """

    total: int
    base: int = 0
    steps: int = 0
    next: int = 0
    open: int = 0
    won: int = 0
    lost: int = 0
    skipped: int = 0
    spans: dict[int, Span] = {}
    results: dict[int, msgspec.Raw] = {}
    errors: dict[int, ErrorInfo] = {}
    again: list[int] = []

    @property
    def waiting(self) -> int:
        """Return how many items have not ended."""
        return self.total - self.won - self.lost - self.skipped

    @property
    def unbegun(self) -> int:
        """Return how many items have no step yet."""
        return self.total - self.next + len(self.again)

    def span(self, iteration: int) -> Span:
        """Return which items the step with this iteration has."""
        return self.spans.get(iteration) or (iteration - 1 - self.base, 0)

    def is_repeated(self, iteration: int) -> bool:
        """Tell whether the step with this iteration runs an item once more, or one that begins after such."""
        span = self.spans.get(iteration)
        return span is not None and not span[1]

    def wanted(self, batch: int, most: int) -> Iterator[tuple[int, Span, bool]]:
        """Yield (iteration, span, told) of up to `most` steps to begin; `told`: the iteration does not tell it."""
        iteration = self.base + self.steps
        for start in self.again[:most]:
            iteration += 1
            yield iteration, (start, 0), True
        start = self.next
        for _ in range(most - min(most, len(self.again))):
            if start >= self.total:
                return
            iteration += 1
            if batch > 1:
                size = min(batch, self.total - start)
                yield iteration, (start, size), True
                start += size
            else:
                yield iteration, (start, 0), start != iteration - 1 - self.base
                start += 1

    def begin(self, iteration: int, data: msgspec.Raw) -> None:
        """Take note of a step. `data` tells its items where the iteration does not."""
        self.steps, self.open = iteration - self.base, self.open + 1
        if data is not NOTHING:
            self.spans[iteration] = _SPANS.decode(data)
        start, size = self.span(iteration)
        if start in self.again:
            self.again.remove(start)
        else:
            self.next = max(self.next, start + (size or 1))

    def win(self, iteration: int, data: msgspec.Raw) -> None:
        """Take a step's result."""
        start, size = self.span(iteration)
        self.open -= 1
        self.won += size or 1
        self.results[start] = data

    def skip(self, iteration: int) -> None:
        """Take note that a step's item has no result."""
        self.open -= 1
        self.skipped += self.span(iteration)[1] or 1

    def lose(self, iteration: int, error: ErrorInfo | None) -> None:
        """Take a step's failure."""
        start, size = self.span(iteration)
        self.open -= 1
        self.lost += size or 1
        if error is not None:
            self.errors[start] = error

    def reopen(self, iteration: int) -> None:
        """Take a step's failure back."""
        start, size = self.span(iteration)
        if self.errors.pop(start, None) is not None:
            self.lost -= size or 1
            self.open += 1

    def repeat(self, start: int) -> bool:
        """Have an item that succeeded run once more, unless it is one of a batch; tell so."""
        if start not in self.results or self.is_batched:
            return False
        del self.results[start]
        self.won -= 1
        self.again.append(start)
        return True

    @property
    def is_batched(self) -> bool:
        """Tell whether items were begun in batches."""
        return any(size for _, size in self.spans.values())

    def joined(self, whole: Callable[[msgspec.Raw], msgspec.Raw]) -> msgspec.Raw:
        """Return the results that there are as one list, in the order of the items."""
        batches = {start for start, size in self.spans.values() if size}
        parts = [
            bytes(raw)[1:-1] if start in batches else bytes(raw)
            for start in sorted(self.results)
            if (raw := whole(self.results[start]))
        ]
        return msgspec.Raw(b"[%b]" % b",".join(part for part in parts if part))

    def first_error(self) -> ErrorInfo | None:
        """Return the error of the first item that failed."""
        return self.errors[min(self.errors)] if self.errors else None


_SPANS = msgspec.json.Decoder(Span)
