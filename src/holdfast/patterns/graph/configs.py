"""Settings: frozen, and merged so that what was given wins, also when it is False, 0 or None."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, ClassVar, Final, Self, TypeVar

from holdfast.errors import DefinitionError
from holdfast.model.checks import COUNT, FLAG, LIMIT, POSITION, WORDS, Kind, instance_of, setting

C = TypeVar("C", bound="Config")


class Config:
    """A frozen set of named settings that remembers which of them were given.

    `a.merge(b)` takes from `b` what `b` was given, and the rest from `a`.
    """

    _defaults: ClassVar[dict[str, Any]] = {}
    _kinds: ClassVar[dict[str, Kind]] = {}

    def __init__(self, **given: Any) -> None:
        """Keep the given settings; an unknown one, or one of another kind, is refused by name."""
        unknown = given.keys() - self._defaults.keys()
        if unknown:
            raise DefinitionError(
                f"{type(self).__name__} has no setting {min(unknown)!r}",
                fix=f"Its settings are {', '.join(self._defaults)}.",
            )
        for name, value in given.items():
            setting(type(self).__name__, name, value, self._kinds[name])
        self.__dict__.update(self._defaults)
        self.__dict__.update(given)
        self.__dict__["_given"] = given

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a config is frozen."""
        raise AttributeError(f"{type(self).__name__} is frozen; make another one with {name}={value!r}")

    def given(self, name: str) -> Any:
        """Return a setting if it was given, else None."""
        return self.__dict__["_given"].get(name)

    def merge(self, other: Self) -> Self:
        """Return a config with the settings that `other` was given over those of self."""
        merged = dict(self.__dict__["_given"])
        for name, value in other.__dict__["_given"].items():
            mine = merged.get(name)
            merged[name] = (
                mine.merge(value) if isinstance(mine, Config) and isinstance(value, Config) else value
            )
        return type(self)(**merged)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings with their values."""
        return {
            name: value.to_dict() if isinstance(value := getattr(self, name), Config) else value
            for name in self._defaults
        }

    def __eq__(self, other: object) -> bool:
        """Compare by type and values."""
        return type(self) is type(other) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        """Hash by type and values."""
        return hash((type(self), str(self.to_dict())))

    def __repr__(self) -> str:
        """Show what was given."""
        given = ", ".join(f"{k}={v!r}" for k, v in self.__dict__["_given"].items())
        return f"{type(self).__name__}({given})"


class CheckpointConfig(Config):
    """Which positions are listed as checkpoints: every `interval` rounds, none for 0.

    A `store` is fed with them, by its name in the registry; it keeps the last after the run with `preserve`.
    """

    store: str | None
    interval: int
    preserve: bool
    _defaults: ClassVar = {"store": None, "interval": 1, "preserve": True}
    _kinds: ClassVar = {"store": WORDS.or_none(), "interval": POSITION, "preserve": FLAG}


class GraphConfig(Config):
    """A graph's settings. `max_iterations` bounds the rounds of a run, however wide; it counts on over resumes.

    `observer` names who sees the events of the graph's runs beside the engine's own observers, which log by default;
    so the default adds nobody.
    """

    name: str | None
    observer: str | None
    max_iterations: int
    checkpoint: CheckpointConfig
    _defaults: ClassVar = {
        "name": None,
        "observer": "logging",
        "max_iterations": 1000,
        "checkpoint": CheckpointConfig(),
    }
    _kinds: ClassVar = {
        "name": WORDS.or_none(),
        "observer": WORDS.or_none(),
        "max_iterations": POSITION,
        "checkpoint": instance_of(CheckpointConfig, expected="a CheckpointConfig"),
    }


class ChainConfig(Config):
    """How a chain is processed: whether its result has the states between, and the observer of its events, by name."""

    capture_intermediate_states: bool
    observer: str | None
    _defaults: ClassVar = {"capture_intermediate_states": False, "observer": "logging"}
    _kinds: ClassVar = {"capture_intermediate_states": FLAG, "observer": WORDS.or_none()}


class ParallelConfig(Config):
    """How items are processed in parallel.

    `max_workers` above 0 is their number; else it follows from processors and items, up to `worker_cap`. With
    `fail_fast`, True unless False is given, nothing new begins after the first failure.
    """

    max_workers: int
    worker_cap: int
    fail_fast: bool | None
    observer: str | None
    _defaults: ClassVar = {"max_workers": 0, "worker_cap": 16, "fail_fast": True, "observer": "logging"}
    _kinds: ClassVar = {
        "max_workers": POSITION,
        "worker_cap": POSITION,
        "fail_fast": FLAG.or_none(),
        "observer": WORDS.or_none(),
    }


class ConditionalConfig(Config):
    """How a choice is processed: the observer of its events, by name."""

    observer: str | None
    _defaults: ClassVar = {"observer": "logging"}
    _kinds: ClassVar = {"observer": WORDS.or_none()}


class HubConfig(Config):
    """A hub's settings: how many messages wait for one agent, how long a request waits, and where it logs."""

    name: str
    channel_buffer_size: int
    default_timeout: float | timedelta
    logger: logging.Logger | None
    _defaults: ClassVar = {
        "name": "default",
        "channel_buffer_size": 100,
        "default_timeout": 30,
        "logger": None,
    }
    _kinds: ClassVar = {
        "name": WORDS,
        "channel_buffer_size": COUNT,
        "default_timeout": LIMIT,
        "logger": instance_of(logging.Logger, expected="a logger").or_none(),
    }


DEFAULT: Final = GraphConfig()
