"""High waters: 12 hours and 25 minutes lie between two of them."""

from datetime import datetime, timedelta

BETWEEN = timedelta(hours=12, minutes=25)


def high_waters(first: datetime, count: int) -> list[datetime]:
    """Returns so many high waters, beginning with the first."""
    return [first + number * BETWEEN for number in range(count)]
