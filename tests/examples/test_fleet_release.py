"""A release to a fleet: switched back on every host when one does not start, live when all do."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from examples.fleet_release.demo import HOSTS, play


async def test_one_host_that_does_not_start_takes_the_release_back_from_all(tmp_path: Path) -> None:
    said = io.StringIO()
    second, third, fleet = await play(Console(file=said, width=200), tmp_path)
    assert second["state"] == "rolled back"
    assert "sylt does not start with version 2" in second["context"]["why"]
    assert third["state"] == "live"
    assert fleet.shown() == {**dict.fromkeys(HOSTS, "3"), "sign": "now with version 3"}
    told = said.getvalue()
    assert told.count("compensate:switch") == len(HOSTS)
    assert "'sylt': '1', 'sign': ''" in told, "as before the release"
