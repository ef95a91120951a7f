"""SCXML: what is read, and what is refused with its line. Nothing is expanded, fetched or run."""

from __future__ import annotations

import pytest

from holdfast import DefinitionError, StateMachine

HEAD = '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" initial="a">'


def scxml(body: str) -> StateMachine:
    return StateMachine.from_scxml(f"{HEAD}\n{body}\n</scxml>")


def test_in_asks_what_is_active_in_another_region() -> None:
    machine = scxml(
        """<parallel id="a">
          <state id="door"><state id="closed"><transition event="open" target="opened"/></state>
            <state id="opened"/></state>
          <state id="light"><state id="off">
            <transition event="look" cond="In('opened') and not In('on')" target="on"/></state><state id="on"/></state>
        </parallel>"""
    )
    machine.trigger("look")
    assert machine.state == ("closed", "off")
    machine.trigger("open")
    machine.trigger("look")
    assert machine.state == ("opened", "on")


def test_what_is_sent_later_comes_later_and_can_be_cancelled() -> None:
    machine = scxml(
        """<state id="a"><onentry><send event="t" delay="1.5s" id="x"/></onentry>
             <transition event="stop" target="b"/><transition event="t" target="c"/></state>
           <state id="b"><onentry><cancel sendid="x"/></onentry><transition event="t" target="c"/></state>
           <state id="c"/>"""
    )
    machine.elapse(1.4)
    machine.trigger("stop")
    machine.elapse(1)
    assert machine.state == "b"
    machine.reset()
    machine.elapse(1.6)
    assert machine.state == "c"


def test_conditions_and_scripts_that_are_functions_here() -> None:
    done: list[str] = []
    machine = StateMachine.from_scxml(
        f"""{HEAD}<state id="a"><transition event="t" cond="x &gt; 1" target="b"><script src="tell"/></transition>
        </state><state id="b"/></scxml>""",
        guards={"x > 1": lambda: True},
        actions={"tell": lambda: done.append("told")},
    )
    machine.trigger("t")
    assert (machine.state, done) == ("b", ["told"])


LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE scxml [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<scxml xmlns="http://www.w3.org/2005/07/scxml"><state id="&b;"/></scxml>"""
EXTERNAL = """<?xml version="1.0"?>
<!DOCTYPE scxml [<!ENTITY file SYSTEM "file:///etc/passwd">]>
<scxml xmlns="http://www.w3.org/2005/07/scxml"><state id="&file;"/></scxml>"""


@pytest.mark.parametrize(
    "text", [LAUGHS, EXTERNAL, '<!DOCTYPE scxml SYSTEM "http://127.0.0.1/x.dtd"><scxml/>']
)
def test_a_dtd_is_refused_before_anything_of_it_is_looked_at(text: str) -> None:
    with pytest.raises(DefinitionError, match=r"^line [12]: the document has a DTD$"):
        StateMachine.from_scxml(text)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            '<state id="a"><transition target="b"/></state>',
            r"line 2: <transition> leads to 'b', which is not there",
        ),
        ('<state id="a"/>\n<state id="a"/>', r"line 3: <state> has the id 'a' of another"),
        (
            '<state id="a"><onentry><script>x = 1</script></onentry></state>',
            "line 2: <script> is not supported",
        ),
        ('<script>x = 1</script><state id="a"/>', "line 2: <script> is not supported"),
        ('<datamodel><data id="x"/></datamodel><state id="a"/>', "line 2: <datamodel> is not supported"),
        (
            '<state id="a"><transition cond="x == 1" target="a"/></state>',
            "line 2: .* has the condition 'x == 1'",
        ),
        ("""<state id="a"><transition cond="In('z')" target="a"/></state>""", "line 2: .* asks for 'z'"),
        ("""<state id="a"><transition cond="In('a') and" target="a"/></state>""", "has the condition"),
        ('<state id="a"><invoke src="http://x"/></state>', "line 2: <invoke> is not supported"),
        ('<state id="a"><transition target="a" type="inner"/></state>', "has the type 'inner'"),
        ('<state id="a"><onentry><raise/></onentry></state>', "line 2: <raise> has no event"),
        ('<state id="a"><onentry><send event="x" delay="soon"/></onentry></state>', "has the delay 'soon'"),
        (
            '<state id="a"><onentry><send event="x" target="http://x"/></onentry></state>',
            "outside of the machine",
        ),
        ('<state id="a"><history id="h"/></state>', "line 2: <history> needs one transition"),
        ('<state id="a"><nonsense/></state>', "line 2: <nonsense> has no place within <state>"),
        ('<state id="a"><state id="b"></state>', r"line \d+: mismatched tag"),
        ("", "leads to 'a', which is not there"),
    ],
)
def test_what_is_malformed_or_not_supported_is_refused_with_its_line(body: str, problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        scxml(body)


def test_what_is_no_scxml() -> None:
    with pytest.raises(DefinitionError, match="<html> is no statechart"):
        StateMachine.from_scxml("<html/>")
    with pytest.raises(DefinitionError, match="line 1"):
        StateMachine.from_scxml(b"")
    with pytest.raises(DefinitionError, match="deep"):
        StateMachine.from_scxml(HEAD + "<state>" * 5000)
