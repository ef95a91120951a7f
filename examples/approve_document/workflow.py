"""The workflow ``approve-document``: extract, assess, ask a person where there is risk, publish or reject.

The `Runtime` carries ``agent`` (who assesses) and ``outbox`` (the folder for what is published). While the run waits
for the person it costs a row: the process may end, and any other process may bring the answer.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final, TypedDict

from holdfast import (
    END,
    START,
    RetryPolicy,
    Runtime,
    State,
    StateGraph,
    StepContext,
    interrupt,
    workflow_factory,
)
from holdfast.agents import AgentRequest, AgentUnavailable, ScriptedAgent, ask

NAME: Final = "approve-document"
QUESTION: Final = "approve"
RISKS: Final = ("low", "high")
INSTRUCTIONS: Final = (
    "Assess the risk of publishing the document. High: it binds us to pay, names a person, or makes a promise. "
    'Answer with JSON only: {"risk": "low" or "high", "why": "one sentence"}'
)
_PATIENT: Final = RetryPolicy(attempts=5, backoff=2.0, retry_on=(AgentUnavailable,))
_AMOUNT: Final = re.compile(r"\b(?:EUR|USD)\s*(\d[\d,]*)")


class Params(TypedDict):
    """What a run is started with."""

    document: str
    """Path of a text file that every worker can open."""


def extract(state: State) -> dict[str, Any]:
    """Returns the text, its first line as title, the amounts in it and its fingerprint."""
    text = Path(state["document"]).read_text(encoding="utf-8").strip()
    if not text:
        raise ValueError(f"{state['document']} is empty")
    return {
        "title": text.splitlines()[0],
        "text": text,
        "amounts": [int(amount.replace(",", "")) for amount in _AMOUNT.findall(text)],
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:12],
    }


async def assess(state: State, step: StepContext) -> dict[str, str]:
    """Returns the risk that the agent sees, and why; raises ValueError for an answer that is of no use."""
    request = AgentRequest(
        task=step.name,
        instructions=INSTRUCTIONS,
        params={"document": state["text"], "amounts": state["amounts"]},
        secrets=step.secrets,
    )
    answer = json.loads(await ask(step.runtime.agent, request))
    if not isinstance(answer, dict) or answer.get("risk") not in RISKS:
        raise ValueError(f"the agent's answer names no risk: {str(answer)[:200]}")
    return {"risk": answer["risk"], "why": str(answer.get("why", ""))}


def approve(state: State) -> dict[str, Any]:
    """Returns what a person says; until then the run waits. Raises ValueError for an answer that says nothing."""
    asked = {key: state[key] for key in ("title", "amounts", "why", "fingerprint")}
    answer = interrupt(QUESTION, asked, timeout=30 * 86_400)
    match answer:
        case {"yes": bool(yes)}:
            return {"approved": yes, "by": str(answer.get("by", "somebody"))}
    raise ValueError('answer with {"yes": true or false, "by": "name"}')


def publish(state: State, step: StepContext) -> dict[str, str]:
    """Returns where the document was published. The file's name is the same each time, so twice is once."""
    place: Path = step.runtime.outbox / f"{state['fingerprint']}.txt"
    place.write_text(state["text"], encoding="utf-8")
    return {"outcome": "published", "place": str(place)}


def reject(state: State) -> dict[str, str]:
    """Returns that nothing was published."""
    return {"outcome": "rejected"}


@workflow_factory(
    NAME, description="Publishes a document, after a person approved what is risky", params=Params
)
def approve_document(graph: StateGraph, runtime: Runtime, params: Params) -> State:
    """Builds the graph: extract, assess, approve if there is risk, publish or reject."""
    graph.add_node("extract", extract)
    graph.add_node("assess", assess, retry=_PATIENT)
    graph.add_node("approve", approve)
    graph.add_node("publish", publish)
    graph.add_node("reject", reject)
    graph.add_edge(START, "extract").add_edge("extract", "assess")
    graph.add_conditional_edge(
        "assess", lambda state: "publish" if state["risk"] == "low" else "approve", ["publish", "approve"]
    )
    graph.add_conditional_edge(
        "approve", lambda state: "publish" if state["approved"] else "reject", ["publish", "reject"]
    )
    graph.add_edge("publish", END).add_edge("reject", END)
    return State({"document": params["document"]})


def by_amounts(request: AgentRequest) -> str:
    """Returns what can be said without a model: money is risk."""
    total = sum(request.params["amounts"])
    why = f"it binds us to pay {total:,}" if total else "it names no amount"
    return json.dumps({"risk": "high" if total else "low", "why": why})


def offline() -> ScriptedAgent:
    """Returns an agent that needs no network."""
    return ScriptedAgent({"assess": by_amounts})
