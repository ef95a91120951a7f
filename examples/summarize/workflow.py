"""The workflow ``summarize``: one node that asks the agent of the `Runtime` for a summary of a text."""

import re
from collections import Counter
from typing import Final, TypedDict

from holdfast import END, START, RetryPolicy, Runtime, State, StateGraph, StepContext, workflow_factory
from holdfast.agents import AgentRequest, AgentUnavailable, ScriptedAgent, ask

NAME: Final = "summarize"
INSTRUCTIONS: Final = (
    "Summarize the text in at most two sentences. Keep names and numbers. Answer with the summary only."
)
_PATIENT: Final = RetryPolicy(attempts=5, backoff=2.0, retry_on=(AgentUnavailable,))
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")
_WORD: Final = re.compile(r"\w{4,}")


class Params(TypedDict):
    """What a run is started with."""

    text: str


async def summarize(state: State, step: StepContext) -> dict[str, str]:
    """Returns the agent's summary."""
    text = state["text"].strip()
    if not text:
        raise ValueError("the text is empty: there is nothing to summarize")
    request = AgentRequest(
        task=step.name, instructions=INSTRUCTIONS, params={"text": text}, secrets=step.secrets
    )
    return {"summary": (await ask(step.runtime.agent, request)).strip()}


@workflow_factory(NAME, description="Summarizes a text by asking an agent", params=Params)
def summarize_text(graph: StateGraph, runtime: Runtime, params: Params) -> State:
    """Builds the graph of one node."""
    graph.add_node("summarize", summarize, retry=_PATIENT)
    graph.add_edge(START, "summarize").add_edge("summarize", END)
    return State({"text": params["text"]})


def key_sentence(text: str) -> str:
    """Returns the sentence whose words the text uses most: what can be done without a model."""
    counts = Counter(word.lower() for word in _WORD.findall(text))

    def weight(sentence: str) -> float:
        words = _WORD.findall(sentence)
        return sum(counts[word.lower()] for word in words) / (len(words) + 4)

    return max(_SENTENCE.split(text.strip()), key=weight)


def offline() -> ScriptedAgent:
    """Returns an agent that needs no network."""
    return ScriptedAgent({"summarize": lambda request: key_sentence(request.params["text"])})
