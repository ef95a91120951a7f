"""Opening the program of a run: the pattern's own, and what the workflow's job defaults add to it."""

from __future__ import annotations

from typing import Any

from holdfast.core.jobs import Job
from holdfast.core.program import Program, Workflow
from holdfast.core.supervision import Supervision
from holdfast.core.work import Blobs


def opened(workflow: Workflow, services: Any, params: dict[str, Any], blobs: Blobs) -> Program[Any]:
    """Return the program of one run. One without a retry and hooks of its job is opened as it is."""
    program = workflow.open(services, params, blobs)
    job: Job | None = getattr(workflow, "job", None)
    if job is None or not job.supervises:
        return program
    return Supervision(program, job, params, blobs)
