"""Durable workflows for Python: no committed step is ever lost or run twice in the record."""

from asyncio import AbstractEventLoop as _Loop
from collections.abc import Mapping as _Mapping
from importlib import import_module as _import
from threading import RLock as _RLock
from typing import TYPE_CHECKING
from typing import Any as _Any

from holdfast.core.breaker import CircuitBreaker
from holdfast.core.checkpoints import CheckpointStore, get_checkpoint_store, register_checkpoint_store
from holdfast.core.context import StepContext, interrupt, step_context
from holdfast.core.embedding import Embedded as _Embedded
from holdfast.core.embedding import install as _install_embedded
from holdfast.core.guarding import install as _install_calls
from holdfast.core.locking import install as _install_locks
from holdfast.core.observers import Observer, get_observer, register_observer
from holdfast.core.program import END, START
from holdfast.core.program import Workflow as _Workflow
from holdfast.core.retries import RetryPolicy
from holdfast.engine import Engine
from holdfast.errors import (
    Cancelled,
    CircuitOpen,
    DefinitionError,
    HoldfastError,
    InvalidStatus,
    PayloadRejected,
    RequestError,
    RunCancelled,
    RunConflict,
    RunError,
    RunFailed,
    RunNotFound,
    RunTimedOut,
    SignalTimeout,
    StoreError,
    WorkflowNotFound,
)
from holdfast.errors import (
    InvalidTransition as InvalidTransition,
)
from holdfast.item_nodes import chain_node, conditional_node, parallel_node
from holdfast.model.run import RunStatus, StepStatus
from holdfast.model.state import State
from holdfast.model.values import register_type
from holdfast.patterns.graph.builder import StateGraph
from holdfast.patterns.graph.configs import (
    ChainConfig,
    CheckpointConfig,
    ConditionalConfig,
    GraphConfig,
    HubConfig,
    ParallelConfig,
)
from holdfast.patterns.graph.edges import Send
from holdfast.patterns.graph.factory import WorkflowFactory as WorkflowFactory
from holdfast.processing import process_chain, process_conditional, process_parallel, worker_pool
from holdfast.registry import Registry as _Registry
from holdfast.registry import get_workflow, list_workflows, register, workflow_factory
from holdfast.resilience import Bulkhead as Bulkhead
from holdfast.resilience import CachePolicy as CachePolicy
from holdfast.resilience import Hedge as Hedge
from holdfast.resilience import Policy as Policy
from holdfast.resilience import RateLimit as RateLimit
from holdfast.resilience import Retention as Retention
from holdfast.run import Page, Run
from holdfast.runtime.guards.calls import Calls as _Calls
from holdfast.runtime.observers import MultiObserver, StreamingObserver
from holdfast.services import Runtime

if TYPE_CHECKING:
    from holdfast.patterns.dag.builder import DAGWorkflow as DAGWorkflow
    from holdfast.patterns.dag.task import Task as Task
    from holdfast.patterns.machine.builder import StateMachine as StateMachine
    from holdfast.patterns.saga.builder import Saga as Saga
    from holdfast.patterns.saga.orchestrator import SagaOrchestrator as SagaOrchestrator

_RARER = {
    "DAGWorkflow": "holdfast.patterns.dag.builder",
    "Saga": "holdfast.patterns.saga.builder",
    "SagaOrchestrator": "holdfast.patterns.saga.orchestrator",
    "StateMachine": "holdfast.patterns.machine.builder",
    "Task": "holdfast.patterns.dag.task",
}
"""Names that are imported when they are first asked for: not everybody needs each pattern."""


def __getattr__(name: str) -> _Any:
    if name not in _RARER:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    return getattr(_import(_RARER[name]), name)


def _find_embedded() -> _Embedded:
    from holdfast.blocking import embedded  # noqa: PLC0415 - a loop in a thread, for those who need it

    return embedded()


def _find_loop() -> _Loop:
    from holdfast.blocking import portal  # noqa: PLC0415 - as above

    return portal.loop()


async def _run_here(workflow: _Workflow, params: _Mapping[str, _Any]) -> _Any:
    async with Engine("sqlite:///:memory:", observers=(), registry=_Registry()) as engine:
        return await engine.execute(workflow, params)


_install_embedded(_find_embedded, _run_here)
_install_locks(_RLock)
_install_calls(_Calls(_find_loop))

__version__ = "0.1.0"

__all__ = [
    "END",
    "START",
    "Cancelled",
    "ChainConfig",
    "CheckpointConfig",
    "CheckpointStore",
    "CircuitBreaker",
    "CircuitOpen",
    "ConditionalConfig",
    "DefinitionError",
    "Engine",
    "GraphConfig",
    "HoldfastError",
    "HubConfig",
    "InvalidStatus",
    "MultiObserver",
    "Observer",
    "Page",
    "ParallelConfig",
    "PayloadRejected",
    "RequestError",
    "RetryPolicy",
    "Run",
    "RunCancelled",
    "RunConflict",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "RunStatus",
    "RunTimedOut",
    "Runtime",
    "Saga",
    "Send",
    "SignalTimeout",
    "State",
    "StateGraph",
    "StepContext",
    "StepStatus",
    "StoreError",
    "StreamingObserver",
    "WorkflowNotFound",
    "__version__",
    "chain_node",
    "conditional_node",
    "get_checkpoint_store",
    "get_observer",
    "get_workflow",
    "interrupt",
    "list_workflows",
    "parallel_node",
    "process_chain",
    "process_conditional",
    "process_parallel",
    "register",
    "register_checkpoint_store",
    "register_observer",
    "register_type",
    "step_context",
    "worker_pool",
    "workflow_factory",
]
