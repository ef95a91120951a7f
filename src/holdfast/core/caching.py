"""The cache of results: what a step's result is known by, why none was found, and what is kept of one that was made.

A result is known by a key: a hash of its scope, the step, and of its parts, which are what it is made of: the code and
each input. The parts' own hashes stand beside it, so that a miss can say which of them is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, Literal, Protocol

import msgspec

from holdfast.core.fingerprint import canonical, digest
from holdfast.errors import PayloadRejected
from holdfast.model import facts
from holdfast.model.cache import CacheEntry, Kept
from holdfast.model.checks import FLAG, LIMIT, WORDS, Kind, setting
from holdfast.model.ids import Instant, RunId, StepId, microseconds, moment
from holdfast.model.profile import StageProfile
from holdfast.model.values import encode

Scope = Literal["run", "workflow", "global"]

_INPUT: Final = "input "
"""How the parts that are inputs are named."""


def _is_key(given: object) -> bool:
    if given is None or callable(given) or (isinstance(given, str) and given):
        return True
    named = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    return named and bool(given) and all(isinstance(each, str) and each for each in given)  # type: ignore[attr-defined]


SCOPE: Final = Kind(lambda given: given in ("run", "workflow", "global"), '"run", "workflow" or "global"')

_KINDS: Final = {
    "ttl": LIMIT.or_none(),
    "key": Kind(_is_key, "a function of what the step gets, or names of its inputs"),
    "scope": SCOPE,
    "version": WORDS,
    "despite_secrets": FLAG,
}


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Keeps a step's result, and gives it to a step with the same inputs and the same code instead of running that.

    A result is of use for `ttl`, without one until it is cleared. `scope` says to whom: to later runs of the same
    workflow, to the same "run" alone, or "global"ly to every workflow with a step of that name. `key` says which inputs
    count: their names, or a function that is called with what the step is called with (but for `step`) and returns what
    stands for them. `version` stands for the code, which is then not looked at. What a step made that read a secret is
    kept in the scope "run" only, and with `despite_secrets`: for secrets that have no part in what it returns.
    """

    ttl: float | timedelta | None = None
    key: Callable[..., Any] | str | Sequence[str] | None = None
    scope: Scope = "workflow"
    version: str = ""
    despite_secrets: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no such policy, naming the field."""
        for field, kind in _KINDS.items():
            setting("CachePolicy", field, getattr(self, field), kind)


CacheOption = CachePolicy | bool | float | timedelta | None
"""What `cache=` takes: a policy, its ttl, or True for one without."""

_OPTION: Final = Kind(
    lambda given: given is None or isinstance(given, CachePolicy | bool) or LIMIT.holds(given),
    "True, a CachePolicy, or how long a result is of use",
)
_ALWAYS: Final = CachePolicy()


def cache_of(where: str, given: CacheOption) -> CachePolicy | None:
    """Return the policy that an option comes to. Raises DefinitionError naming `where`."""
    setting(where, "cache", given, _OPTION)
    if given is None or given is False:
        return None
    if isinstance(given, CachePolicy):
        return given
    return _ALWAYS if given is True else CachePolicy(ttl=given)


class Cached(Protocol):
    """The work of a step with a cache."""

    @property
    def name(self) -> str:
        """The step's name."""

    @property
    def again(self) -> bool:
        """Somebody wants the step to run once more: it is not looked up, and its result takes the entry's place."""

    def code(self) -> str:
        """Return a hash of its code."""

    def inputs(self) -> Mapping[str, msgspec.Raw]:
        """Return what it gets, encoded, by name."""

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return what its code is called with, but for the step's context; no secrets are in it."""


class Question(msgspec.Struct, frozen=True):
    """What the cache is asked for a step, and what its result is kept under."""

    step: StepId
    name: str
    scope: Scope
    workflow: str
    run: RunId
    key: str
    family: str
    parts: dict[str, str]
    lasts: int = 0
    """Microseconds, 0 for ever."""

    @property
    def owner(self) -> RunId:
        """Whose end is the entry's end."""
        return self.run if self.scope == "run" else ""


def question(
    work: Cached, policy: CachePolicy, step: StepId, run: RunId, workflow: str, profile: StageProfile | None
) -> Question:
    """Return what to ask for a step. `profile` is given where the stage has settings.

    Raises what the policy's key raises, and PayloadRejected for names of no input and for what cannot be encoded.
    """
    parts = {"version": _hashed(encode(policy.version))} if policy.version else {"code": work.code()}
    if profile is not None:
        parts["profile"] = _hashed(encode(asdict(profile), "the profile"))
    if callable(policy.key):
        args, kwargs = work.arguments()
        parts["key"] = _hashed(encode(policy.key(*args, **kwargs), "what its key returned"))
    else:
        chosen = _chosen(work.inputs(), policy.key)
        parts |= {_INPUT + name: _hashed(raw) for name, raw in chosen.items()}
    place = {"run": run, "workflow": workflow, "global": ""}[policy.scope]
    family = _family(policy.scope, place, work.name)
    key = digest(msgspec.json.encode((family, sorted(parts.items()))))
    lasts = 0 if policy.ttl is None else microseconds(policy.ttl)
    return Question(step, work.name, policy.scope, workflow, run, key, family, parts, lasts)


@lru_cache(1024)  # the items of a map are all of one
def _family(scope: Scope, place: str, name: str) -> str:
    return digest(msgspec.json.encode((scope, place, name)))


def _chosen(inputs: Mapping[str, msgspec.Raw], names: Any) -> Mapping[str, msgspec.Raw]:
    if names is None:
        return inputs
    wanted = (names,) if isinstance(names, str) else tuple(names)
    chosen = {name: inputs[name] for name in wanted if name in inputs}
    if not chosen:
        raise PayloadRejected(
            f"its key names no input: {', '.join(map(repr, wanted))}",
            field="key",
            fix=f"Its inputs are {', '.join(map(repr, inputs)) or 'none'}.",
        )
    return chosen


def _hashed(raw: msgspec.Raw) -> str:
    return digest(canonical(raw))


# --- what was found


def why_missed(asked: Question, found: CacheEntry | None, last: CacheEntry | None) -> str:
    """Return why there is no result: `found` under its key is of no use any more, `last` is the family's last entry."""
    if found is not None:
        return f"expired at {moment(found.expires):%Y-%m-%d %H:%M:%S} UTC"
    if last is None:
        return "no entry"
    try:
        before = _PARTS.decode(last.parts)
    except msgspec.DecodeError:
        return "the last entry cannot be read"
    other = sorted(name for name in {*before, *asked.parts} if before.get(name) != asked.parts.get(name))
    inputs = [repr(name.removeprefix(_INPUT)) for name in other if name.startswith(_INPUT)]
    told = [_TOLD[name] for name in other if name in _TOLD]
    if inputs:
        told.append(f"inputs differ: {', '.join(inputs)}")
    return "; ".join(told) or "no entry"


_TOLD: Final = {
    "code": "the code changed",
    "version": "the version changed",
    "profile": "the profile differs",
    "key": "the key differs",
}
_PARTS: Final = msgspec.json.Decoder(dict[str, str])
_KEPT: Final = msgspec.json.Decoder(Kept)


def is_of_use(entry: CacheEntry | None, now: Instant) -> bool:
    """Tell whether an entry's result may be taken."""
    return entry is not None and (not entry.expires or now < entry.expires)


def kept_in(entry: CacheEntry) -> Kept:
    """Return the result of an entry. Raises msgspec.DecodeError for one that cannot be read."""
    return _KEPT.decode(entry.body)


# --- what is kept


def entry_of(asked: Question, made: facts.StepCompleted, large: Mapping[str, bytes]) -> CacheEntry:
    """Return the entry for a result, with its large values in it."""
    kept = Kept(made.data, made.gone, {digest_: msgspec.Raw(data) for digest_, data in large.items()})
    return CacheEntry(
        key=asked.key,
        family=asked.family,
        scope=asked.scope,
        workflow=asked.workflow,
        step=asked.name,
        run=asked.run,
        at=made.at,
        owner=asked.owner,
        expires=made.at + asked.lasts if asked.lasts else 0,
        parts=msgspec.json.encode(asked.parts),
        body=msgspec.json.encode(kept),
    )
