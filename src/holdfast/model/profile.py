"""Profiles: named sets of settings for a workflow's stages, merged field by field over what the code says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec

from holdfast.errors import PayloadRejected
from holdfast.model.checks import DATA, LABEL, WORDS, Kind, argument
from holdfast.model.facts import NOTHING
from holdfast.model.values import decode, encode

MOST_BYTES: Final = 65_536

_STAGE: Final = {"agent": LABEL.or_none(), "prompt": WORDS.or_none(), "options": DATA}


@dataclass(frozen=True, slots=True)
class StageProfile:
    """The settings of one stage: which agent it asks, with which prompt, and what else. None: not given."""

    agent: str | None = None
    prompt: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is of another kind, naming the field."""
        for name, kind in _STAGE.items():
            argument(name, getattr(self, name), kind)

    def merge(self, over: StageProfile) -> StageProfile:
        """Return these settings with those that `over` was given in their place, option by option."""
        return StageProfile(
            self.agent if over.agent is None else over.agent,
            self.prompt if over.prompt is None else over.prompt,
            {**self.options, **over.options},
        )


_STAGES: Final = Kind(
    lambda given: (
        isinstance(given, Mapping)
        and all(isinstance(name, str) and isinstance(stage, StageProfile) for name, stage in given.items())
    ),
    'a dict of settings by stage, such as {"detect": StageProfile(agent="eyes")}',
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of settings by stage."""

    name: str
    stages: Mapping[str, StageProfile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is of another kind, naming the field."""
        argument("name", self.name, LABEL)
        argument("stages", self.stages, _STAGES)

    def pack(self) -> msgspec.Raw:
        """Return the profile as JSON. Raises PayloadRejected for options that cannot be stored or are too large."""
        stages = {name: asdict(stage) for name, stage in self.stages.items()}
        packed = encode({"name": self.name, "stages": stages}, f"profile {self.name!r}")
        if len(packed) > MOST_BYTES:
            raise PayloadRejected(
                f"profile {self.name!r} has {len(packed):,} bytes",
                field="profile",
                fix=f"Keep it below {MOST_BYTES:,} bytes; put large things elsewhere, and name them.",
            )
        return packed


def unpack(packed: msgspec.Raw | bytes) -> Profile:
    """Return the profile that was packed."""
    found = decode(packed)
    return Profile(found["name"], {name: StageProfile(**stage) for name, stage in found["stages"].items()})


def settings_of(stage: str, coded: StageProfile | None, packed: msgspec.Raw) -> StageProfile:
    """Return a stage's settings: what the code says, and over it what the run's profile says."""
    settings = coded or StageProfile()
    if packed == NOTHING:
        return settings
    over = unpack(packed).stages.get(stage)
    return settings if over is None else settings.merge(over)
