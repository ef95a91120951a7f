"""Asking the cache for the results of steps that are about to start, and keeping those that steps give.

A step is looked up once, when it is scheduled and before that is committed: a hit is its completion in the same commit.
Later attempts run; what they give is kept, too. All that were scheduled together are looked up together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.core.caching import CachePolicy, Question, entry_of, is_of_use, kept_in, question, why_missed
from holdfast.core.ledger import OpenStep
from holdfast.errors import PayloadRejected
from holdfast.model import facts
from holdfast.model.cache import CacheEntry, Kept
from holdfast.model.commit import Keep
from holdfast.model.profile import settings_of
from holdfast.model.secrets import Watched

if TYPE_CHECKING:
    from holdfast.core.work import Outcome
    from holdfast.runtime.attempt import Attempt
    from holdfast.runtime.held import Held
    from holdfast.store.port import Store

logger: Final = logging.getLogger("holdfast")


class Keeping(msgspec.Struct):
    """Under what a step's result is kept, and the large values that it has."""

    asked: Question
    large: Mapping[str, bytes] = {}


class Asked(msgspec.Struct, frozen=True):
    """A step that was just scheduled; without a question it has missed for a reason that is known."""

    step: str
    question: Question | None
    missed: str = ""


class Caching:
    """Asks the cache, and keeps results, for the runs of one worker."""

    def __init__(self, store: Store) -> None:
        """Keep where to ask."""
        self._store = store

    def plan(self, run: Held, step: OpenStep, work: Any) -> None:
        """Take note of a planned step with a cache; one at its first attempt is to be asked for."""
        try:
            asked: Question | None = (known := self._question(run, step, work))
        except Exception as error:  # noqa: BLE001 - the policy's key is the user's code
            told = run.secrets.scrub(f"its key failed: {type(error).__name__}: {error}")
            logger.warning("run %s: step %s is not looked up in the cache: %s", run.id, step.step, told)
            run.kept.pop(step.step, None)
            asked, missed = None, facts.readable(told[:500])
        else:
            run.kept[step.step] = Keeping(known)
            missed = "it was asked to run again" if work.again else ""
        if step.attempt == 1:
            run.asking.append(Asked(step.step, None if missed else asked, missed))

    def _question(self, run: Held, step: OpenStep, work: Any) -> Question:
        policy: CachePolicy = work.cache
        pinned = run.ledger.profile
        has_settings = work.profile is not None or pinned != facts.NOTHING
        profile = settings_of(step.name, work.profile, pinned) if has_settings else None
        workflow = "/".join((run.holding.workflow, *run.ledger.part))
        return question(work, policy, step.step, run.id, workflow, profile)

    async def answers(self, run: Held, recorded: Sequence[facts.Fact]) -> list[facts.Fact]:
        """Return the completions of steps whose results are there; those that missed say so in `recorded`.

        Nobody has seen the recorded facts. Raises StoreUnavailable.
        """
        asking = [each for each in run.asking if each.step in run.ready]
        found, last = await self._look([each.question for each in asking if each.question is not None])
        run.asking = []
        scheduled = {fact.step: fact for fact in recorded if type(fact) is facts.StepScheduled}
        arrivals: list[facts.Fact] = []
        for each in asking:
            missed, asked = each.missed, each.question
            if asked is not None:
                entry = found.get(asked.key)
                kept, missed = self._taken(run, entry)
                if kept is not None and entry is not None:
                    arrivals.append(_hit(run, asked, entry, kept))
                    continue
                if not missed:
                    missed = why_missed(asked, entry, last.get(asked.family))
            if (
                each.step in scheduled
            ):  # else it was committed before, and its run paused before it could start
                msgspec.structs.force_setattr(scheduled[each.step], "missed", missed)
        return arrivals

    async def _look(
        self, asked: Sequence[Question]
    ) -> tuple[Mapping[str, CacheEntry], Mapping[str, CacheEntry]]:
        """Return what is found by key, and of those that miss the last entry by family."""
        if not asked:
            return {}, {}
        found = await self._store.cached(list(dict.fromkeys(each.key for each in asked)))
        families = list(dict.fromkeys(each.family for each in asked if each.key not in found))
        return found, await self._store.cached_last(families) if families else {}

    def _taken(self, run: Held, entry: CacheEntry | None) -> tuple[Kept | None, str]:
        """Return the result of an entry, or why it is of no use; a text of no length where it is not there."""
        if entry is None or not is_of_use(entry, self._store.now()):
            return None, ""
        try:
            kept = kept_in(entry)
            run.secrets.refuse({"": kept.data, **kept.large})
        except msgspec.DecodeError:
            return None, "its entry cannot be read"
        except PayloadRejected:
            return None, "its entry holds a secret of this run"
        return kept, ""

    def keep(self, run: Held, recorded: Sequence[facts.Fact]) -> None:
        """Have the results that were recorded go into the cache, in the same commit."""
        for fact in recorded:
            if not isinstance(fact, facts.STEP_ENDS):
                continue
            keeping = run.kept.pop(fact.step, None)
            if keeping is None or not isinstance(fact, facts.StepCompleted):
                continue
            if not (fact.cached or fact.unkept or fact.error):
                run.sending.append(Keep(entry_of(keeping.asked, fact, keeping.large)))


def _hit(run: Held, asked: Question, entry: CacheEntry, kept: Kept) -> facts.StepCompleted:
    """Return a step's completion by a result that was there."""
    del run.ready[asked.step]
    run.blobs.add({digest: bytes(data) for digest, data in kept.large.items()})
    return facts.StepCompleted(
        step=asked.step, attempt=1, gone=kept.gone, cached=entry.run, data=msgspec.Raw(bytes(kept.data))
    )


def why_unkept(attempt: Attempt, outcome: Outcome) -> str:
    """Return why the result of an attempt is not kept for others: what it depends on is in no key. Empty: it is."""
    policy: CachePolicy | None = attempt.work.cache
    if policy is None or outcome.unkept:
        return outcome.unkept
    if outcome.secrets is not None:
        return "it changed the run's secrets"
    step = attempt.step
    if step.answers or step.lapsed:
        return f"it was answered: {', '.join(map(repr, [*(step.answers or ()), *step.lapsed]))}"
    secrets = attempt.secrets
    if policy.scope != "run" and not policy.despite_secrets and isinstance(secrets, Watched) and secrets.read:
        names = ", ".join(map(repr, sorted(secrets.read)))
        return f"it read the secret {names}" if len(secrets.read) == 1 else f"it read the secrets {names}"
    return ""
