"""The pipeline: pending, building, testing, staging, production; and from any state, or when something fails, rollback.

A site is a folder of releases with a link `current` to the one that is served. Building and testing are graphs that
the machine invokes, each a run of its own; going live is two steps: one switches the link, one asks the site whether it
is well.
"""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from holdfast import END, START, RetryPolicy, State, StateGraph, StateMachine, register
from holdfast.machines import ALWAYS, action

PATIENCE: Final = 7 * 86_400
"""Seconds that a release waits for an approval."""


class Unwell(Exception):
    """The site does not say that it is well."""


# --- building and testing: graphs


def bundle(state: State) -> dict[str, Any]:
    """Pack the source into one file, the same for the same source."""
    source, target = Path(state["source"]), Path(state["site"]) / f"{state['version']}.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(source.rglob("*")):
            archive.writestr(zipfile.ZipInfo(str(file.relative_to(source))), file.read_bytes())
    return {"bundle": str(target)}


def unpack(state: State) -> dict[str, Any]:
    """Lay the release down beside the others."""
    release = Path(state["site"]) / "releases" / state["version"]
    shutil.rmtree(release, ignore_errors=True)
    with zipfile.ZipFile(state["bundle"]) as archive:
        archive.extractall(release)
    return {"release": str(release)}


def has_a_front_page(state: State) -> None:
    """Fail when the release has no page to show."""
    if "<h1>" not in (Path(state["release"]) / "index.html").read_text(encoding="utf-8"):
        raise ValueError("index.html has no heading")


def says_how_it_is(state: State) -> None:
    """Fail when the release cannot be asked how it is."""
    json.loads((Path(state["release"]) / "health.json").read_text(encoding="utf-8"))


build: Final = StateGraph("build")
build.add_node("bundle", bundle).add_node("unpack", unpack)
build.add_edge(START, "bundle").add_edge("bundle", "unpack").add_edge("unpack", END)

tests: Final = StateGraph("tests")
tests.add_node("front page", has_a_front_page).add_node("health", says_how_it_is)
tests.add_edge(START, "front page").add_edge(START, "health")
tests.add_edge("front page", END).add_edge("health", END)


# --- the machine


def keep_built(context: dict[str, Any], event: Any) -> None:
    """Remember where the release is."""
    context["release"] = event.data["release"]


def is_another(context: Mapping[str, Any], event: Any) -> bool:
    """Tell whether somebody else than the author approves."""
    return bool(event.data["by"] != context["author"])


def served(site: Path) -> str:
    """Return the release that visitors see, empty before the first."""
    current = site / "current"
    return str(current.readlink()) if current.is_symlink() else ""


def look(context: dict[str, Any]) -> None:
    """Remember what is served before the release: what a transition that fails changes in the context is dropped."""
    context["before"] = served(Path(context["site"]))


def point_to(site: Path, release: str) -> None:
    """Switch the site to a release, at once."""
    fresh = site / "next"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(release)
    fresh.replace(site / "current")


def switch(context: dict[str, Any], event: Any) -> None:
    """Serve the release; remember who approved it. Done twice it is done once."""
    context["by"] = event.data["by"]
    point_to(Path(context["site"]), context["release"])


def check_health(context: dict[str, Any]) -> None:
    """Ask the site whether it is well."""
    health = json.loads((Path(context["site"]) / "current" / "health.json").read_text(encoding="utf-8"))
    if health != {"status": "ok"}:
        raise Unwell(f"the site says {health}")


def restore(context: dict[str, Any], event: Any) -> None:
    """Serve again what was served before, if the site was switched to the release; keep why."""
    context["why"] = event.data["message"] if event.data else "somebody asked for it"
    site = Path(context["site"])
    if "before" not in context or served(site) != context["release"]:
        return
    if context["before"]:
        point_to(site, context["before"])
    else:
        (site / "current").unlink()


def pipeline() -> StateMachine:
    """Return the machine of one deployment."""
    machine = StateMachine(
        "deployment", initial="pending", description="Build, test, stage, go live; or roll back"
    )
    machine.add_state("staging", entry=look)
    machine.add_transition("pending", "building", "start")
    machine.add_transition("building", "testing", invoke=build, action=keep_built)
    machine.add_transition("testing", "staging", invoke=tests)
    machine.add_transition(
        "staging",
        "production",
        "approve",
        guard=is_another,
        action=[switch, action(check_health, retry=RetryPolicy(attempts=3, backoff=0.2, jitter="none"))],
    )
    machine.add_transition("staging", "rejected", "reject")
    machine.add_transition("staging", "rejected", after=PATIENCE)
    machine.add_transition("production", "done", "finish")
    # Without an event: `send("rollback")` from any state, and whatever fails on the way.
    machine.add_transition("*", "rollback", action=restore)
    machine.add_transition("rollback", "rolled back", ALWAYS)
    for name in ("done", "rejected", "rolled back"):
        machine.add_state(name, final=True)
    return machine


deployment: Final = pipeline()
register("deployment", deployment, replace=True)
