"""What guards calls: alone around a function, together as a policy, or declared on the steps of a workflow."""

from holdfast.core.breaker import BreakerInfo, CircuitBreaker
from holdfast.core.caching import CachePolicy
from holdfast.core.jobs import JobDefaults
from holdfast.core.limits import Bulkhead, RateLimit
from holdfast.core.policy import Hedge, Policy
from holdfast.core.retention import Retention
from holdfast.core.retries import RetryBudget, RetryPolicy
from holdfast.errors import BulkheadFull, CircuitOpen, RateLimited, Refused
from holdfast.model.run import EndingRun
from holdfast.remembering import CachedResult

__all__ = [
    "BreakerInfo",
    "Bulkhead",
    "BulkheadFull",
    "CachePolicy",
    "CachedResult",
    "CircuitBreaker",
    "CircuitOpen",
    "EndingRun",
    "Hedge",
    "JobDefaults",
    "Policy",
    "RateLimit",
    "RateLimited",
    "Refused",
    "Retention",
    "RetryBudget",
    "RetryPolicy",
]
