"""The agents without a model: they know one module, and the programmer errs at first."""

from __future__ import annotations

from typing import Final

from holdfast.agents import AgentRefused, AgentRequest, Rule, ScriptedAgent

SAMPLE: Final = """\
def harbour_dues(kind, length, nights):
    if kind == "sail":
        dues = length * 1.5 * nights
        if nights >= 7:
            dues = dues * 0.9
        return round(dues, 2)
    elif kind == "motor":
        dues = length * 2.0 * nights
        if nights >= 7:
            dues = dues * 0.9
        return round(dues, 2)
    elif kind == "ferry":
        dues = length * 4.0 * nights
        return round(dues, 2)
    else:
        raise ValueError(kind)
"""

ANALYSIS: Final = """\
One formula is written three times, and only the rate differs.
The discount for a week stands twice; ferries have none, which is easily lost.
Rates and discount are numbers in the middle of the code."""

REFACTORED: Final = """\
RATES = {"sail": 1.5, "motor": 2.0, "ferry": 4.0}
WEEK, DISCOUNT = 7, 0.9
NO_DISCOUNT = {"ferry"}


def harbour_dues(kind, length, nights):
    if kind not in RATES:
        raise ValueError(kind)
    dues = length * RATES[kind] * nights
    if nights >= WEEK and kind not in NO_DISCOUNT:
        dues *= DISCOUNT
    return round(dues, 2)
"""

CARELESS: Final = REFACTORED.replace(" and kind not in NO_DISCOUNT", "").replace(
    'NO_DISCOUNT = {"ferry"}\n', ""
)

TESTS: Final = """\
import unittest

from subject import harbour_dues


class HarbourDues(unittest.TestCase):
    def test_each_kind_has_its_rate(self):
        dues = [harbour_dues(kind, 10, 1) for kind in ("sail", "motor", "ferry")]
        self.assertEqual(dues, [15.0, 20.0, 40.0])

    def test_a_week_is_cheaper_from_the_seventh_night(self):
        self.assertEqual(harbour_dues("sail", 10, 6), 90.0)
        self.assertEqual(harbour_dues("sail", 10, 7), 94.5)
        self.assertEqual(harbour_dues("motor", 10, 7), 126.0)

    def test_a_ferry_pays_in_full(self):
        self.assertEqual(harbour_dues("ferry", 10, 7), 280.0)

    def test_what_is_no_ship_is_refused(self):
        with self.assertRaises(ValueError):
            harbour_dues("raft", 10, 1)
"""


def offline() -> ScriptedAgent:
    """Returns an agent that needs no network; the first module that it writes is wrong, the second is right."""
    written = iter([CARELESS])

    def about(answer: Rule) -> Rule:
        def by_source(request: AgentRequest) -> Rule:
            if request.params["source"] != SAMPLE:
                raise AgentRefused("the script knows one module only; set AGENT_URL and AGENT_MODEL")
            assert not isinstance(answer, Exception)
            return answer(request) if callable(answer) else answer

        return by_source

    return ScriptedAgent(
        {
            "analyze": about(ANALYSIS),
            "refactor": about(lambda _: fenced(next(written, REFACTORED))),
            "test": about(fenced(TESTS)),
            "review": about(reviewed),
        }
    )


def fenced(code: str) -> str:
    return f"Here it is:\n```python\n{code}```\n"


def reviewed(request: AgentRequest) -> str:
    """Returns what a reviewer says who reads the report of the tests."""
    if request.results["check"]["after"]:
        return "REJECT: a test that passes on the old code fails on the new."
    return "APPROVE: one formula, and ferries still have no discount."
