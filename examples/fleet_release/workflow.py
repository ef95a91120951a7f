"""The saga of a release, and the machine that waits for its approval and says what became of it."""

from __future__ import annotations

from typing import Any, Final

from holdfast import RetryPolicy, Saga, StateMachine, register
from holdfast.machines import ALWAYS

BRIEFLY: Final = RetryPolicy(attempts=2, backoff=0.1, jitter="none")


def close(params: dict[str, Any], runtime: Any) -> None:
    runtime.fleet.sign(f"we are about to serve version {params['version']}")


def reopen(runtime: Any) -> None:
    runtime.fleet.sign("")


def look(params: dict[str, Any], runtime: Any) -> dict[str, str]:
    """What each host serves before: known to the compensations whatever becomes of a switch."""
    return {host: runtime.fleet.serves(host) for host in params["hosts"]}


def switch(params: dict[str, Any], item: str, runtime: Any) -> None:
    runtime.fleet.switch(item, params["version"])


def switch_back(item: str, results: dict[str, Any], runtime: Any) -> None:
    runtime.fleet.switch(item, results["look"][item])


def check(item: str, runtime: Any) -> str:
    return str(runtime.fleet.check(item))


def announce(params: dict[str, Any], runtime: Any) -> None:
    runtime.fleet.sign(f"now with version {params['version']}")


release: Final = Saga("release", description="Switch every host, check every host; or switch all back")
release.add_step("close", forward=close, compensate=reopen)
release.add_step("look", forward=look)
release.add_step("switch", forward=switch, compensate=switch_back, foreach="hosts")
release.add_step("check", forward=check, retry=BRIEFLY, foreach="hosts")
release.add_step("announce", forward=announce, kind="pivot")


def keep_why(context: dict[str, Any], event: Any) -> None:
    context["why"] = event.data["message"] if event.data else "somebody asked for it"


def machine() -> StateMachine:
    """The life of one release."""
    made = StateMachine(
        "fleet-release", initial="proposed", description="A release to all hosts, after an approval"
    )
    made.add_transition("proposed", "releasing", "approve")
    made.add_transition("proposed", "rejected", "reject")
    made.add_transition("releasing", "live", invoke=release)
    made.add_transition("*", "rollback", action=keep_why)
    made.add_transition("rollback", "rolled back", ALWAYS)
    for name in ("live", "rejected", "rolled back"):
        made.add_state(name, final=True)
    return made


fleet_release: Final = machine()
register("fleet-release", fleet_release, replace=True)
