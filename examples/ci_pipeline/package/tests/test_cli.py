import io
import unittest
from contextlib import redirect_stdout
from unittest.mock import patch

from tidetable.cli import main


class Command(unittest.TestCase):
    def test_it_prints_a_line_for_each_high_water(self) -> None:
        out = io.StringIO()
        with patch("sys.argv", ["tidetable", "2026-11-20T04:10", "2"]), redirect_stdout(out):
            main()
        self.assertEqual(out.getvalue(), "2026-11-20 04:10\n2026-11-20 16:35\n")


if __name__ == "__main__":
    unittest.main()
