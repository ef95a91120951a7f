"""The rule of twelfths: in the six hours of a tide the water rises by 1, 2, 3, 3, 2 and 1 twelfths of its range."""

TWELFTHS = (0, 1, 3, 6, 9, 11, 12)


def height(low: float, high: float, hours: float) -> float:
    """Returns the height of the water so many hours after low water, at most six."""
    if not 0 <= hours <= 6:
        raise ValueError(f"{hours} hours: a tide rises for six")
    whole = min(int(hours), 5)
    part = TWELFTHS[whole] + (TWELFTHS[whole + 1] - TWELFTHS[whole]) * (hours - whole)
    return low + (high - low) * part / 12
