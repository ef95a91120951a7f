"""W16: merging configs dropped what was given: False, 0 and None never won, and one looked at the wrong side."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from holdfast import (
    ChainConfig,
    CheckpointConfig,
    ConditionalConfig,
    DefinitionError,
    GraphConfig,
    HubConfig,
    ParallelConfig,
    process_parallel,
)
from holdfast.errors import ParallelError
from holdfast.patterns.graph.configs import Config

OTHERS: list[tuple[type[Config], dict[str, Any], dict[str, Any]]] = [
    (GraphConfig, {"max_iterations": 1000}, {"name": "n", "observer": "noop", "max_iterations": 7}),
    (CheckpointConfig, {"interval": 1}, {"store": "memory", "interval": 0, "preserve": False}),
    (ChainConfig, {"observer": "logging"}, {"capture_intermediate_states": True, "observer": None}),
    (
        ParallelConfig,
        {"worker_cap": 16},
        {"max_workers": 3, "worker_cap": 0, "fail_fast": False, "observer": None},
    ),
    (ConditionalConfig, {"observer": "logging"}, {"observer": "noop"}),
    (
        HubConfig,
        {"default_timeout": 30},
        {"name": "h", "channel_buffer_size": 1, "default_timeout": 0.5, "logger": logging.getLogger("h")},
    ),
]


@pytest.mark.parametrize(("kind", "_", "given"), OTHERS, ids=lambda of: getattr(of, "__name__", ""))
def test_each_given_field_wins_and_no_other(kind: type[Config], _: Any, given: dict[str, Any]) -> None:
    for name, value in given.items():
        for mine in (kind(), kind(**given)):
            expected = mine.to_dict() | {name: value}
            assert mine.merge(kind(**{name: value})).to_dict() == expected
        assert kind(**given).merge(kind()).to_dict() == kind(**given).to_dict()


@pytest.mark.parametrize(("kind", "default", "given"), OTHERS, ids=lambda of: getattr(of, "__name__", ""))
def test_a_default_that_is_given_wins_too(
    kind: type[Config], default: dict[str, Any], given: dict[str, Any]
) -> None:
    (name, value) = next(iter(default.items()))
    assert getattr(kind(**given).merge(kind(**default)), name) == value


def test_checkpoints_are_merged_field_by_field() -> None:
    mine = GraphConfig(checkpoint=CheckpointConfig(store="memory", preserve=False))
    merged = mine.merge(GraphConfig(checkpoint=CheckpointConfig(interval=0)))
    assert merged.checkpoint.to_dict() == {"store": "memory", "interval": 0, "preserve": False}


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        (ParallelConfig, {"max_workers": -1}),
        (ParallelConfig, {"worker_cap": True}),
        (ParallelConfig, {"fail_fast": "no"}),
        (ChainConfig, {"observer": 5}),
        (ConditionalConfig, {"default": None}),
        (HubConfig, {"channel_buffer_size": 0}),
        (HubConfig, {"default_timeout": 0}),
        (HubConfig, {"logger": "stdout"}),
    ],
    ids=str,
)
def test_what_is_no_setting_is_refused_by_name(kind: type[Config], setting: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=f"{kind.__name__}.*{next(iter(setting))}"):
        kind(**setting)


async def test_fail_fast_that_is_not_given_is_true() -> None:
    def fail(item: int) -> int:
        if item == 0:
            raise ValueError
        return item

    collecting = ParallelConfig(fail_fast=False)
    assert (await process_parallel([0, 1], fail, ParallelConfig().merge(collecting))).results == [1]
    for config in (None, ParallelConfig(), collecting.merge(ParallelConfig(fail_fast=None))):
        with pytest.raises(ParallelError):
            await process_parallel([0, 1], fail, config)
