import unittest

from tidetable import height


class Twelfths(unittest.TestCase):
    def test_a_tide_is_low_half_and_high(self) -> None:
        self.assertEqual([height(1, 5, hours) for hours in (0, 3, 6)], [1, 3, 5])

    def test_it_rises_fastest_in_the_middle(self) -> None:
        rises = [height(0, 12, hour + 1) - height(0, 12, hour) for hour in range(6)]
        self.assertEqual(rises, [1, 2, 3, 3, 2, 1])

    def test_there_is_no_seventh_hour(self) -> None:
        with self.assertRaises(ValueError):
            height(0, 1, 7)


if __name__ == "__main__":
    unittest.main()
