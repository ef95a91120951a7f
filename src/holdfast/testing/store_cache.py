"""What is promised about results in the cache: kept with commits, found by key, forgotten."""

# ruff: noqa: S101 - tests: asserts are their way to speak, numbers what they expect
from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from holdfast.model.cache import CacheEntry
from holdfast.model.commit import Conflict, Dequeue, Keep
from holdfast.store.port import Store
from holdfast.store.rows import CacheListed, CacheQuery
from holdfast.testing.store_cases import COMPLETED, NOON, effect, going_on, held, opened


def entry(key: str, family: str = "f", **changes: Any) -> CacheEntry:
    """Return a result of run "r" at noon."""
    given: dict[str, Any] = {
        "scope": "workflow",
        "workflow": "order",
        "step": "price",
        "run": "r",
        "at": NOON,
    }
    body = b'{"data":{"\xc3\xa9":"\\u0000"}}'
    return CacheEntry(key=key, family=family, **{**given, "parts": b'{"code":"1"}', "body": body, **changes})


class CacheContract:
    """`Keep`, `cached`, `cached_last`, `cache`, `clear_cache` and `forget_cached`."""

    async def test_a_result_is_there_with_its_commit(self, store: Store) -> None:
        """And it is what was kept; the last one under a key is."""
        await held(store)
        assert await store.cached(["a"]) == {}
        await effect(store, Keep(entry("a")), Keep(entry("b", owner="r", expires=NOON + 1)))
        assert await store.cached(["b", "none", "a"]) == {
            "a": entry("a"),
            "b": entry("b", owner="r", expires=NOON + 1),
        }
        later = entry("a", "g", at=NOON + 5, step="tax", body=b'{"data":2}')
        await effect(store, Keep(later))
        assert await store.cached(["a"]) == {"a": later}

    async def test_a_commit_that_is_refused_keeps_nothing(self, store: Store) -> None:
        """Also beside one that is accepted, and of two with one key the accepted one stays."""
        epoch = await held(store)
        await opened(store, "s")
        good = going_on("r", 1, epoch=epoch, effects=(Keep(entry("a")),))
        bad = going_on("s", 7, effects=(Keep(entry("a", run="s")), Keep(entry("b"))))
        answers = await store.commit([good, bad])
        assert [type(answer) is Conflict for answer in answers] == [False, True]
        assert await store.cached(["a", "b"]) == {"a": entry("a")}

    async def test_the_last_entry_of_a_family_is_found(self, store: Store) -> None:
        """Without its body."""
        await held(store)
        kept = [entry("a", at=NOON + 2), entry("b", at=NOON + 1), entry("c", "g")]
        await effect(store, *map(Keep, kept))
        found = await store.cached_last(["f", "g", "h"])
        assert found == {"f": replace(kept[0], body=b""), "g": replace(kept[2], body=b"")}

    async def test_results_are_listed_and_cleared(self, store: Store) -> None:
        """By workflow, step and scope, page by page."""
        await held(store)
        kept = [
            entry("a", at=NOON + 1),
            entry("b", at=NOON + 1, step="tax"),
            entry("c", at=NOON, workflow="other", scope="global", expires=NOON + 9),
        ]
        await effect(store, *map(Keep, kept))
        everything = await store.cache(CacheQuery())
        assert [each.key for each in everything] == ["b", "a", "c"]
        body = len(kept[2].body)
        assert everything[2] == CacheListed("c", "global", "other", "price", "r", NOON, NOON + 9, body)
        assert [each.key for each in await store.cache(CacheQuery(), 1, (NOON + 1, "b"))] == ["a"]
        assert [each.key for each in await store.cache(CacheQuery(step="price", scope="workflow"))] == ["a"]
        assert await store.clear_cache(CacheQuery(workflow="order", step="tax")) == 1
        assert await store.clear_cache(CacheQuery(), limit=1) == 1
        assert await store.clear_cache(CacheQuery()) == 1
        assert await store.cache(CacheQuery()) == []

    async def test_what_expired_is_forgotten(self, store: Store) -> None:
        """A few at a time; what never expires stays."""
        await held(store)
        kept = [entry(str(number), expires=number and NOON + number) for number in range(4)]
        await effect(store, *map(Keep, kept))
        assert await store.forget_cached(NOON + 3, limit=1) == 1
        assert await store.forget_cached(NOON + 3) == 1
        assert await store.forget_cached(NOON + 3) == 0
        assert (await store.cached(["0", "1", "2", "3"])).keys() == {"0", "3"}

    async def test_two_commits_of_a_run_at_once_keep_both(self, store: Store) -> None:
        """Or the one that is accepted, when the second is not."""
        epoch = await held(store)
        first = going_on("r", 1, epoch=epoch, effects=(Keep(entry("a")), Keep(entry("b"))))
        second = going_on("r", 2, epoch=epoch, effects=(Keep(entry("b", at=NOON + 1)),))
        await store.commit([first, second])
        assert await store.cached(["a", "b"]) == {"a": entry("a"), "b": entry("b", at=NOON + 1)}
        third = going_on("r", 3, epoch=epoch, effects=(Keep(entry("c")),))
        bad = going_on("r", 9, epoch=epoch, effects=(Keep(entry("d")),))
        await store.commit([third, bad])
        assert (await store.cached(["c", "d"])).keys() == {"c"}

    async def test_a_result_outlives_its_run_unless_that_owns_it(self, store: Store) -> None:
        """However many rows that has."""
        await held(store)
        await effect(store, Keep(entry("a")), Keep(entry("b", owner="r")))
        await effect(store, Dequeue(), status=COMPLETED)
        await store.delete("r")
        assert (await store.cached(["a", "b"])).keys() == {"a"}
