"""The words that all parts share: what was read on a page, as plain JSON.

These dictionaries go into the state of the run as they are, so a reload, a stream and a person with ``jq`` all
see the same thing. Pixels never do: a page image is rendered again from the document when it is needed.
"""

from typing import Final, Literal, TypedDict

Location = Literal["header", "footer", "margin", "body"]
LOCATIONS: Final[tuple[Location, ...]] = ("header", "footer", "margin", "body")

UNREADABLE: Final = "[unreadable]"
"""Text of a marking that is on the page, but that nobody could read."""

LEGIBILITY_THRESHOLD: Final = 0.4
"""Below this a marking is read again on an enhanced page."""


class Marking(TypedDict):
    """One security marking: its text, where it stands, how well it can be read and whether its ink is faded."""

    text: str
    location: Location
    legibility: float
    faded: bool


class FilterSuggestion(TypedDict):
    """How to make a page readable: 100, 0 and 100 change nothing."""

    brightness: float
    """0 to 200."""
    contrast: float
    """-100 to 100."""
    saturation: float
    """0 to 200."""


class PageReading(TypedDict):
    """What a reader found on one page image."""

    page_number: int
    markings_found: list[Marking]
    clarity_score: float
    filter_suggestion: FilterSuggestion | None


class Detection(PageReading):
    """What is known of one page: the reading and the names of the images it was made from."""

    image: str
    enhanced_image: str | None


def clamp(value: float, low: float = 0.0, high: float = 1.0) -> float:
    """Returns the value, moved into the range; what is not a number becomes the lowest."""
    # A NaN compares false with everything, so it has to be asked for.
    return low if value != value else max(low, min(high, value))  # noqa: PLR0124
