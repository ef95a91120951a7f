"""The workflow ``classify-docs``: one durable step for each page of a document.

A page is read in a step of its own, so a crash costs the pages that were being read and no others. Steps pass
the document's path and page numbers on; the state holds what was read, never a pixel.

The `Runtime` carries ``reader`` (who reads a page), ``render`` (RenderSettings) and, if wanted, ``reads`` (a ReadLog).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, NotRequired, TypedDict

from holdfast import END, START, RetryPolicy, Runtime, Send, State, StateGraph, workflow_factory
from holdfast.agents import AgentUnavailable

from .classify import Classification, classify_document
from .enhance import apply_filter, filter_name, merge_reading, needs_enhancement
from .pages import image_name, page_count, render_page
from .readings import LEGIBILITY_THRESHOLD, Detection, FilterSuggestion, PageReading, clamp
from .score import Confidence, score_document

NAME: Final = "classify-docs"
Node = Callable[[State], dict[str, Any]]

# OCR of a page gives the same answer each time: only a model that is out of reach is worth another try.
_ASK_AGAIN: Final = RetryPolicy(attempts=4, backoff=2.0, retry_on=(AgentUnavailable,))


class Params(TypedDict):
    """What a run is started with."""

    document: str
    """Path of a PDF that every worker can open."""
    threshold: NotRequired[float]
    """Legibility below which a page is enhanced and read again; 0.4 when not given."""


def by_page(known: Iterable[Detection], new: Iterable[Detection]) -> list[Detection]:
    """Returns one detection for each page, in page order; a new one takes the place of an older."""
    pages = {detection["page_number"]: detection for detection in known}
    pages |= {detection["page_number"]: detection for detection in new}
    return [pages[number] for number in sorted(pages)]


class DocumentState(TypedDict, total=False):
    """The state of a run; its last form is the run's result."""

    document: str
    threshold: float
    page_count: int
    detections: Annotated[list[Detection], by_page]
    needs_enhancement: bool
    enhancement_applied: bool
    classification: Classification
    confidence: Confidence


def init(state: State) -> dict[str, Any]:
    """Returns the page count; raises DocumentError for what is not a readable PDF."""
    return {"page_count": page_count(state["document"])}


def each_page(state: Mapping[str, Any]) -> list[Send]:
    """Returns one order to read for each page."""
    return [
        Send("detect", {"document": state["document"], "page": number})
        for number in range(1, state["page_count"] + 1)
    ]


def detect_node(runtime: Runtime) -> Node:
    """Returns the node that reads one page."""

    def detect(order: State) -> dict[str, Any]:
        number = order["page"]
        reading = _read(runtime, order["document"], number)
        detection: Detection = {
            **reading,
            "image": image_name(number, runtime.render),
            "enhanced_image": None,
        }
        return {"detections": [detection]}

    return detect


def assess(state: State) -> dict[str, Any]:
    """Returns whether any page is to be read again."""
    needed = any(needs_enhancement(page, state["threshold"]) for page in state["detections"])
    return {"needs_enhancement": needed, "enhancement_applied": needed}


def faded_pages(state: Mapping[str, Any]) -> list[Send] | str:
    """Returns one order to enhance for each page that needs it, or where to go when none does."""
    orders = [
        Send("enhance", {"document": state["document"], "threshold": state["threshold"], "detection": page})
        for page in state["detections"]
        if needs_enhancement(page, state["threshold"])
    ]
    return orders or "classify"


def enhance_node(runtime: Runtime) -> Node:
    """Returns the node that reads one page again, brightness and contrast changed, and keeps the better reading."""

    def enhance(order: State) -> dict[str, Any]:
        original: Detection = order["detection"]
        number, suggestion = original["page_number"], original["filter_suggestion"]
        if suggestion is None:
            return {"detections": [original]}
        reading = _read(runtime, order["document"], number, suggestion)
        image = image_name(number, runtime.render, filter_name(suggestion))
        return {"detections": [merge_reading(original, reading, image, order["threshold"])]}

    return enhance


def classify(state: State) -> dict[str, Any]:
    """Returns the document's classification."""
    return {"classification": classify_document(state["detections"])}


def score(state: State) -> dict[str, Any]:
    """Returns how far the classification can be trusted."""
    return {"confidence": score_document(state["detections"], state["classification"])}


@workflow_factory(
    NAME, description="Classifies the security marking of a scanned PDF", schema=DocumentState, params=Params
)
def classify_docs(graph: StateGraph, runtime: Runtime, params: Params) -> State:
    """Builds the graph: init, detect each page, assess, enhance the faded ones, classify, score."""
    graph.add_node("init", init)
    graph.add_node("detect", detect_node(runtime), retry=_ASK_AGAIN)
    graph.add_node("assess", assess)
    graph.add_node("enhance", enhance_node(runtime), retry=_ASK_AGAIN)
    graph.add_node("classify", classify)
    graph.add_node("score", score)
    graph.add_edge(START, "init")
    graph.add_conditional_edge("init", each_page, ["detect"])
    graph.add_edge("detect", "assess")
    graph.add_conditional_edge("assess", faded_pages, ["enhance", "classify"])
    graph.add_edge("enhance", "classify")
    graph.add_edge("classify", "score")
    graph.add_edge("score", END)
    threshold = clamp(params.get("threshold", LEGIBILITY_THRESHOLD))
    return State({"document": params["document"], "threshold": threshold})


def _read(
    runtime: Runtime, document: str, number: int, suggestion: FilterSuggestion | None = None
) -> PageReading:
    """Returns the reading of one page, enhanced if a filter is given."""
    log = getattr(runtime, "reads", None)
    # The page is rendered only when the reader has room for it: a thousand waiting pages hold no image.
    with runtime.reader.slots:
        if log is not None:
            log.record(document, number, enhanced=suggestion is not None)
        image = render_page(document, number, runtime.render)
        if suggestion is not None:
            image = apply_filter(image, suggestion)
        reading: PageReading = runtime.reader.read(image, number)
        return reading
