"""The secrets of runs in this process's memory: given with a run, set by its steps, or asked of a provider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from holdfast.core.supervision import ON_FAILURE, RUN
from holdfast.errors import PayloadRejected
from holdfast.model import facts
from holdfast.model.ids import RunId
from holdfast.model.run import RunRow
from holdfast.model.secrets import Secrets

logger: Final = logging.getLogger("holdfast")

Provider = Callable[[RunRow, str], str | None]
"""Answers with a run's secret of that name, None when it has none."""


def scrub(recorded: Sequence[facts.Fact], secrets: Secrets) -> None:
    """Blot secrets out of what a router or reducer said; nobody else has seen the facts yet."""
    for fact in recorded:
        if isinstance(fact, facts.RunFailed | facts.RunResumed) and fact.error is not None:
            told = msgspec.structs.replace(fact.error, message=secrets.scrub(fact.error.message))
            msgspec.structs.force_setattr(fact, "error", told)
        elif isinstance(fact, facts.StepScheduled) and fact.name == ON_FAILURE and fact.parent == RUN:
            error = msgspec.json.decode(fact.data, type=facts.ErrorInfo)
            told = msgspec.structs.replace(error, message=secrets.scrub(error.message))
            msgspec.structs.force_setattr(fact, "data", msgspec.Raw(msgspec.json.encode(told)))


class SecretMemory:
    """Secrets by run. Nothing here is ever written anywhere."""

    def __init__(self, provider: Provider | None) -> None:
        """Begin empty."""
        self.provides: Final = provider is not None
        self._provider = provider
        self._runs: dict[RunId, dict[str, str]] = {}

    def of(self, run: RunId) -> dict[str, str]:
        """Return what is kept for a run."""
        return dict(self._runs.get(run, {}))

    def keep(self, run: RunId, secrets: Mapping[str, str] | None) -> None:
        """Keep what a run knows until it is taken up again; none forgets it."""
        if secrets:
            self._runs[run] = dict(secrets)
        else:
            self._runs.pop(run, None)

    def known(self, row: RunRow, names: Sequence[str]) -> dict[str, str]:
        """Return the secrets of a run, or of its parent, that are kept here, and those that the provider answers."""
        known = {**self.of(row.parent), **self.of(row.id)} if names else {}
        for name in names:
            value = known.get(name) or self._provided(row, name)
            if value is not None:
                known[name] = value
        return known

    def _provided(self, row: RunRow, name: str) -> str | None:
        if self._provider is None:
            return None
        try:
            return self._provider(row, name)
        except Exception:
            logger.exception(
                "the secrets function raised for secret %s of run %s; the run waits", name, row.id
            )
            return None


def given_secrets(secrets: object) -> Secrets:
    """Return secrets that a caller gave; refuses what is no mapping of names to texts."""
    if secrets is not None and not isinstance(secrets, Mapping):  # its value is not for messages
        raise PayloadRejected(
            f"secrets are a {type(secrets).__name__}",
            field="secrets",
            fix='Give a dict: secrets={"token": "…"}.',
        )
    return Secrets(secrets)


def refuse_secret(known: Secrets, texts: Mapping[str, str]) -> None:
    """Raise PayloadRejected naming the field whose text holds a secret."""
    for field, text in texts.items():
        if known and (name := known.find(text)) is not None:
            raise PayloadRejected(
                f"{field} holds the secret {name!r}", field=field, fix="Secrets are never stored."
            )
