"""Profiles of workflows: kept in the store, and pinned by each run that is started with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast import registry as registries
from holdfast.core.program import Workflow
from holdfast.errors import PayloadRejected, WorkflowNotFound
from holdfast.model import facts
from holdfast.model.checks import LABEL, argument, instance_of
from holdfast.model.profile import Profile, StageProfile, unpack
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.services import Runtime
from holdfast.travel import Travelling

__all__ = ["Profile", "Profiling", "StageProfile"]

_PROFILE: Final = instance_of(Profile, expected="a Profile")


class Profiling(Travelling):
    """What an engine knows of workflows and their profiles."""

    registry: registries.Registry
    runtime: Runtime

    async def save_profile(self, workflow: Any, profile: Profile) -> None:
        """Keep a profile of a workflow under its name, in place of one that has it. Atomic and idempotent.

        Runs that were started with it keep what it said then. Raises WorkflowNotFound, and PayloadRejected for options
        that cannot be stored.
        """
        argument("profile", profile, _PROFILE)
        name = (await self._found(workflow)).name
        await self._store.save_profile(name, profile.name, bytes(profile.pack()))

    async def delete_profile(self, workflow: Any, name: str) -> None:
        """Forget a profile of a workflow. Atomic and idempotent.

        Runs that were started with it keep what it said. Raises WorkflowNotFound.
        """
        argument("name", name, LABEL)
        found, _ = await self._kept(workflow)
        await self._store.save_profile(found, name, None)

    async def profiles(self, workflow: Any) -> dict[str, Profile]:
        """Return the profiles of a workflow by name, in order. Raises WorkflowNotFound."""
        _, kept = await self._kept(workflow)
        return {found: unpack(body) for found, body in kept.items()}

    async def _kept(self, workflow: Any) -> tuple[str, Mapping[str, bytes]]:
        """Return a workflow's name, and the profiles that are kept of it, also when nobody registers it any more."""
        if isinstance(workflow, str):
            self._open  # noqa: B018 - raises when the engine is closed
            kept = await self._store.profiles(argument("workflow", workflow, LABEL))
            if kept:
                return workflow, kept
        name = (await self._found(workflow)).name
        return name, await self._store.profiles(name)

    async def _found(self, workflow: Any) -> Workflow:
        """Return what runs are started of: a registered workflow, one that a worker lists, or an object."""
        if not isinstance(workflow, str):
            found = registries.as_workflow(workflow)
            if not found.name:
                raise WorkflowNotFound("the workflow has no name", fix="Name it: durable runs need a name.")
            self.registry.lend(found)
            return found
        registered = self.registry.find(workflow) or await self._open.listed(workflow)
        return registered or self.registry.get(workflow)  # raises with the list of names

    async def _pinned(
        self, workflow: Workflow, params: Mapping[str, Any], profile: str | None
    ) -> msgspec.Raw:
        """Return what a profile says now, for a run to keep. Raises PayloadRejected for one that does not fit."""
        argument("profile", profile, LABEL.or_none())
        if profile is None:
            return facts.NOTHING
        known = await self._store.profiles(workflow.name)
        if profile not in known:
            raise PayloadRejected(
                f"workflow {workflow.name!r} has no profile {profile!r}",
                field="profile",
                fix=f"It has: {', '.join(known) or 'none'}. Save it first: engine.save_profile(...).",
            )
        if isinstance(workflow, GraphWorkflow):
            self._refuse_unknown_stages(workflow, dict(params), unpack(known[profile]))
        return msgspec.Raw(known[profile])

    def _refuse_unknown_stages(
        self, workflow: GraphWorkflow, params: dict[str, Any], profile: Profile
    ) -> None:
        try:
            graph, _ = workflow.graph(self.runtime, params)
        except Exception:  # noqa: BLE001 - the run meets it again, and keeps it as its failure
            return
        unknown = sorted(profile.stages.keys() - graph.nodes.keys())
        if unknown:
            raise PayloadRejected(
                f"profile {profile.name!r} sets the stage {unknown[0]!r}, which {workflow.name!r} has not",
                field="profile",
                fix=f"The stages are {', '.join(graph.nodes)}.",
            )
