"""How far a classification can be trusted: six weighed factors and what to do about it. Pure functions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypedDict

from .classify import Classification
from .levels import parse_marking
from .readings import UNREADABLE, Detection, Marking, clamp

Recommendation = Literal["ACCEPT", "REVIEW", "REJECT"]

ACCEPT_FROM: Final = 0.90
REVIEW_FROM: Final = 0.70
WEIGHTS: Final = {
    "marking_clarity": 0.30,
    "marking_consistency": 0.25,
    "spatial_coverage": 0.15,
    "enhancement_impact": 0.10,
    "alternative_count": 0.10,
    "detection_legibility": 0.10,
}
_DESCRIPTIONS: Final = {
    "marking_clarity": "how clear the pages are, on average",
    "marking_consistency": "share of the banner markings that say the same as most of them",
    "spatial_coverage": "share of the pages with a marking at head or foot",
    "enhancement_impact": "1 when no page had to be enhanced, else how legible those pages became",
    "alternative_count": "1 without another reading of the document, half with one, a third with two",
    "detection_legibility": "how legible the markings are, on average",
}
_EDGES: Final = ("header", "footer")


class Factor(TypedDict):
    """One reason to trust or to doubt."""

    name: str
    score: float
    weight: float
    description: str


class Confidence(TypedDict):
    """The weighed sum of all factors and what follows from it."""

    overall_score: float
    factors: list[Factor]
    recommendation: Recommendation


def score_document(detections: Sequence[Detection], classification: Classification) -> Confidence:
    """Returns the confidence in a document's classification."""
    markings = [marking for detection in detections for marking in detection["markings_found"]]
    scores = {
        "marking_clarity": _mean(detection["clarity_score"] for detection in detections),
        "marking_consistency": consistency(markings),
        "spatial_coverage": _mean(float(_has_banner(detection)) for detection in detections),
        "enhancement_impact": enhancement_impact(detections),
        "alternative_count": 1 / (1 + len(classification["alternative_readings"])),
        "detection_legibility": _mean(marking["legibility"] for marking in markings),
    }
    factors: list[Factor] = [
        {
            "name": name,
            "score": round(clamp(scores[name]), 3),
            "weight": weight,
            "description": _DESCRIPTIONS[name],
        }
        for name, weight in WEIGHTS.items()
    ]
    overall = overall_score(factors)
    return {"overall_score": overall, "factors": factors, "recommendation": recommend(overall)}


def overall_score(factors: Iterable[Factor]) -> float:
    """Returns the weighed sum of the factors, 0 to 1."""
    return round(clamp(sum(factor["score"] * clamp(factor["weight"]) for factor in factors)), 3)


def recommend(overall: float) -> Recommendation:
    """Returns what to do with a classification of that score."""
    if overall >= ACCEPT_FROM:
        return "ACCEPT"
    return "REVIEW" if overall >= REVIEW_FROM else "REJECT"


def consistency(markings: Iterable[Marking]) -> float:
    """Returns the share of the banner markings that say what most of them say; what cannot be read says nothing."""
    texts = Counter(marking["text"] for marking in markings if marking["location"] in _EDGES)
    return max((count for text, count in texts.items() if text != UNREADABLE), default=0) / max(
        texts.total(), 1
    )


def enhancement_impact(detections: Iterable[Detection]) -> float:
    """Returns 1 when no page was enhanced, else the mean legibility on the pages that were."""
    enhanced = [detection for detection in detections if detection["enhanced_image"]]
    if not enhanced:
        return 1.0
    return _mean(marking["legibility"] for detection in enhanced for marking in detection["markings_found"])


def _has_banner(detection: Detection) -> bool:
    return any(
        marking["location"] in _EDGES and parse_marking(marking["text"])
        for marking in detection["markings_found"]
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0
