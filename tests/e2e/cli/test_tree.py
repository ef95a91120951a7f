"""The picture of a run: what is in it while the run goes on, and that it stays readable and quick when it is large."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from holdfast.cli.lines import tell, tell_together
from holdfast.cli.marks import TIMES
from holdfast.cli.tree import draw
from holdfast.cli.view import RunView
from holdfast.model.event import RunEvent
from holdfast.model.run import RunStatus

BEGIN = datetime(2026, 11, 20, 8, tzinfo=UTC)


class Story:
    """Tells the events of a run, a second apart unless it says otherwise."""

    def __init__(self) -> None:
        self.view = RunView("r-1")
        self.events: list[RunEvent] = []
        self.now = BEGIN
        self.tell("run.started", workflow="film")

    def tell(self, type: str, /, after: float = 1.0, **data: Any) -> Story:
        self.now += timedelta(seconds=after)
        event = RunEvent("r-1", len(self.events) + 1, type, self.now, data)
        self.events.append(event)
        self.view.absorb(event)
        return self

    def stage(
        self, what: str, name: str, iteration: int = 1, attempt: int = 1, after: float = 1.0, **data: Any
    ) -> Story:
        if what in ("completed", "failed", "cancelled"):
            data = {"duration": 1.0, **data}
        return self.tell(f"stage.{what}", after, name=name, iteration=iteration, attempt=attempt, **data)

    def fan_out(self, name: str, count: int) -> Story:
        for iteration in range(1, count + 1):
            self.stage("scheduled", name, iteration, after=1.0 if iteration == 1 else 0.0)
        return self

    def picture(self, height: int | None = None, *, later: float = 0.0, live: bool = True) -> list[str]:
        out = io.StringIO()
        now = self.now + timedelta(seconds=later)
        Console(file=out, width=100).print(draw(self.view, now, live=live, height=height))
        return [line.rstrip() for line in out.getvalue().splitlines()]


def error(message: str) -> dict[str, str]:
    return {"code": "step_failed", "type": "OSError", "message": message}


def edge(to: str | None, *, taken: bool, name: str = "", reason: str = "", count: int = 1) -> dict[str, Any]:
    return {"to_node": to, "name": name, "result": taken, "reason": reason, "count": count}


def test_a_stage_has_progress_and_the_time_it_takes() -> None:
    story = Story().stage("scheduled", "cut").stage("progress", "cut", percent=50.0, message="reel 2")
    head, line = story.picture(later=2)
    assert head[1:] == " film   4.00s  running  0 of 1 stage completed"
    assert line == f"└─ {line[3]} cut   3.00s  ██████░░░░░░ 50%  reel 2"


def test_a_retry_counts_down_and_then_runs() -> None:
    story = Story().stage("scheduled", "cut")
    due = story.now + timedelta(seconds=6)
    story.stage("retried", "cut", attempt=2, error=error("no film"), next_at=due, reason="failed")
    assert "↻ cut" in story.picture()[1]
    assert story.picture()[1].endswith("attempt 2 in 5.00s  OSError: no film")
    assert story.picture(later=4)[1].endswith("attempt 2 in 1.00s  OSError: no film")
    assert "attempt 2  OSError" in story.picture(later=6)[1]
    story.stage("completed", "cut", attempt=2)
    assert story.picture()[1] == "└─ ✓ cut   1.00s  attempt 2"


def test_a_failure_has_its_error_and_a_resume_takes_it_back() -> None:
    story = Story().stage("scheduled", "cut").stage("failed", "cut", error=error("no film"))
    story.tell("run.failed", error=error("no film"), stage="cut")
    assert story.picture()[0].startswith("✗ film")
    assert "✗ cut   1.00s  OSError: no film" in story.picture()[1]
    story.tell("run.resumed", stages=[{"name": "cut", "iteration": 1, "attempt": 2}])
    assert story.view.status is RunStatus.RUNNING
    story.stage("completed", "cut", attempt=2).tell("run.completed")
    assert [line[:4] for line in story.picture()] == ["✓ fi", "└─ ✓"]


def test_decisions_stand_under_their_stage_with_what_was_not_taken() -> None:
    story = Story().stage("scheduled", "cut").stage("completed", "cut")
    edges = [
        edge("fix", taken=False, name="scratched", reason="did not hold"),
        edge("show", taken=True, reason="default"),
    ]
    story.tell("decision", from_node="cut", edges=edges)
    story.stage("scheduled", "show")
    assert story.picture()[2:4] == ["│  ├─ → show  default", "│  └─ ↛ fix  scratched, did not hold"]


def test_an_edge_without_a_choice_is_no_news() -> None:
    story = Story().stage("scheduled", "cut").stage("completed", "cut")
    story.tell("decision", from_node="cut", edges=[edge("show", taken=True, reason="always")])
    assert len(story.picture()) == 2


def test_waits_say_what_would_end_them() -> None:
    story = Story().tell("wait.started", kind="signal", name="approved", until=None)
    story.tell("wait.started", kind="timer", name="night", until=story.now + timedelta(hours=2))
    lines = story.picture()
    assert "◷ signal approved" in lines[1]
    assert lines[1].endswith("holdfast signal r-1 approved JSON")
    assert "◷ timer night" in lines[2]
    assert lines[2].endswith("in 1h59m")
    story.tell("signal", name="approved").tell("wait.ended", kind="timer", name="night", outcome="completed")
    assert len(story.picture()) == 1


def test_what_only_the_row_knows_is_shown_too() -> None:
    story = Story()
    story.view.settle(RunStatus.WAITING, ("secret token", "retry of cut 2026-11-20T08:00:00Z"))
    assert story.picture()[1:] == ["└─ ◷ waits for secret token"]


def test_a_large_fan_out_is_one_line_and_the_few_that_matter() -> None:
    story = Story().fan_out("item", 10_000)
    for iteration in range(1, 9_001):
        story.stage("completed", "item", iteration, after=0.0)
    due = story.now + timedelta(seconds=5)
    for iteration in range(9_001, 9_021):
        story.stage("retried", "item", iteration, 2, 0.0, error=error("busy"), next_at=due, reason="failed")
    story.stage("failed", "item", 9_500, 1, 0.0, error=error("gone"))
    lines = story.picture(height=20)
    assert f"item {TIMES}10,000" in lines[1]
    assert "9,000/10,000  20 retrying  1 failed" in lines[1]
    assert "✗ item #9500" in lines[2]
    assert lines[-1].endswith("… 17 more")
    assert len(lines) == 7


def test_a_long_loop_shows_its_latest_turns() -> None:
    story = Story()
    for turn in range(1, 501):
        story.stage("scheduled", "turn", turn).stage("completed", "turn", turn)
    lines = story.picture(height=10)
    assert len(lines) == 10
    assert lines[1] == "├─ … 492 earlier"
    assert "✓ turn #500" in lines[-1]
    assert len(story.picture()) == 501


def test_a_picture_is_never_higher_than_the_terminal() -> None:
    story = Story().fan_out("item", 30)
    for iteration in range(1, 31):
        story.stage("progress", "item", iteration, percent=1.0, message="")
    for height in range(2, 10):
        assert len(story.picture(height=height)) <= height


def test_nothing_runs_where_nobody_drives() -> None:
    story = Story().stage("scheduled", "cut")
    story.view.settle(RunStatus.PENDING, ())
    assert story.picture(live=False)[1] == "└─ ○ cut"


def test_what_code_says_cannot_steer_the_terminal() -> None:
    story = Story().stage("scheduled", "cut")
    story.stage("progress", "cut", percent=1.0, message="\x1b[2Jgone\x07")
    assert "\x1b" not in "".join(story.picture())
    assert "�[2Jgone" in story.picture()[1]


# --- lines


def test_every_type_of_event_has_a_line() -> None:
    from holdfast.cli.lines import _BY_TYPE
    from holdfast.core.events import CHUNK_TYPES, EVENT_TYPES

    assert {*EVENT_TYPES, *CHUNK_TYPES} - set(_BY_TYPE) == {"run.continued"}
    told = tell(RunEvent("r-1", 1, "run.continued", BEGIN, {}))
    assert told.text == ["run.continued  {}"]


def test_events_of_a_kind_that_come_together_share_a_line() -> None:
    story = Story().fan_out("item", 100)
    for iteration in range(1, 4):
        story.stage("completed", "item", iteration)
    texts = [
        "".join(part if isinstance(part, str) else part[0] for part in told.text)
        for told in tell_together(story.events)
    ]
    assert texts == [
        "film started",
        f"item {TIMES}100 scheduled",
        "item completed  1.00s",
        "item #2 completed  1.00s",
        "item #3 completed  1.00s",
    ]
