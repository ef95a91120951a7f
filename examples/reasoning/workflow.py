"""The workflow ``reasoning``: analyze, reason, conclude. Each step asks the agent with what the steps before found.

A crash costs at most the answer that was being written: those that were given are in the run.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypedDict

from holdfast import END, START, RetryPolicy, Runtime, State, StateGraph, StepContext, workflow_factory
from holdfast.agents import AgentRefused, AgentRequest, AgentUnavailable, Rule, ScriptedAgent, ask

NAME: Final = "reasoning"
INSTRUCTIONS: Final = {
    "analyze": "Analyze the problem: what is given, what is asked, what is easily overlooked. Do not solve it.",
    "reason": "Solve the problem step by step, with the analysis in mind. Check each step.",
    "conclude": "State the conclusion in one sentence that can be understood without the reasoning.",
}
FOUND: Final = {"analyze": "analysis", "reason": "reasoning", "conclude": "conclusion"}
"""The key of the state that each step sets."""
SAMPLE: Final = (
    "A bat and a ball cost 1.10 together. The bat costs 1.00 more than the ball. What does the ball cost?"
)
_SCRIPT: Final = {
    "analyze": "Given: bat + ball = 1.10 and bat - ball = 1.00. Asked: the ball. Easily overlooked: 1.00 is a "
    "difference, not the price of the bat.",
    "reason": "With ball = b the bat is b + 1.00. Together 2b + 1.00 = 1.10, so 2b = 0.10 and b = 0.05. "
    "Check: 0.05 + 1.05 = 1.10, and 1.05 - 0.05 = 1.00.",
    "conclude": "The ball costs 0.05.",
}
_PATIENT: Final = RetryPolicy(attempts=5, backoff=2.0, retry_on=(AgentUnavailable,))
Node = Callable[[State, StepContext], Awaitable[dict[str, str]]]


class Params(TypedDict):
    """What a run is started with."""

    problem: str


def thinking(task: str) -> Node:
    """Returns the node that asks for one part of the thinking."""

    async def think(state: State, step: StepContext) -> dict[str, str]:
        request = AgentRequest(
            task=task,
            instructions=INSTRUCTIONS[task],
            params={"problem": state["problem"]},
            results={key: state[key] for key in FOUND.values() if key in state},
            secrets=step.secrets,
        )
        return {FOUND[task]: (await ask(step.runtime.agent, request)).strip()}

    return think


@workflow_factory(NAME, description="Analyzes a problem, reasons and concludes", params=Params)
def reasoning(graph: StateGraph, runtime: Runtime, params: Params) -> State:
    """Builds the graph: analyze, reason, conclude."""
    for task in FOUND:
        graph.add_node(task, thinking(task), retry=_PATIENT)
    graph.add_edge(START, "analyze")
    graph.add_edge("analyze", "reason").add_edge("reason", "conclude").add_edge("conclude", END)
    return State({"problem": params["problem"]})


def offline() -> ScriptedAgent:
    """Returns an agent that needs no network; it knows the sample problem only."""

    def told(answer: str) -> Rule:
        def by_problem(request: AgentRequest) -> str:
            if request.params["problem"] != SAMPLE:
                raise AgentRefused("the script knows the sample problem only; set AGENT_URL and AGENT_MODEL")
            return answer

        return by_problem

    return ScriptedAgent({task: told(answer) for task, answer in _SCRIPT.items()})
