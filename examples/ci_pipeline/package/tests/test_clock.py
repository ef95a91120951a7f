import unittest
from datetime import datetime

from tidetable import high_waters


class Clock(unittest.TestCase):
    def test_the_next_high_water_is_25_minutes_later_than_half_a_day(self) -> None:
        first = datetime(2026, 11, 20, 4, 10)
        self.assertEqual(high_waters(first, 2), [first, datetime(2026, 11, 20, 16, 35)])

    def test_none_is_wanted(self) -> None:
        self.assertEqual(high_waters(datetime(2026, 11, 20), 0), [])


if __name__ == "__main__":
    unittest.main()
