"""Draws a run as a tree: its stages with progress, retries and durations, and under each what was decided there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdfast.cli.formats import between, clock, countdown, cut, duration, plural, stage_label
from holdfast.cli.marks import MARKS, NOT_TAKEN, SPINNER, TAKEN, TIMES
from holdfast.cli.output import Part, text_of
from holdfast.cli.view import DecisionView, GroupView, RunView, StageView
from holdfast.model.run import ENDED, RunStatus, StepStatus

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

ITEMS: Final = 4
"""Stages of a large group that get a line of their own."""

EDGES: Final = 6
"""Edges of one decision that get a line."""

BAR: Final = 12
_WHY: Final = {StepStatus.FAILED: "red", StepStatus.RETRYING: "yellow"}

FRAMES: Final = 10
"""Pictures of the spinner in a second."""


class Row(NamedTuple):
    """A line of the tree: what it is about, how that stands, how long it took."""

    label: list[Part]
    detail: Sequence[Part] = ()
    time: str = ""


class Block(NamedTuple):
    """A line under the root with those under it."""

    row: Row
    children: list[Row]

    @property
    def height(self) -> int:
        """How many lines."""
        return 1 + len(self.children)


class Moment(NamedTuple):
    """When a picture is drawn. Only a `live` one has spinners."""

    now: datetime
    live: bool
    held: bool

    def sign(self, status: str) -> Part:
        """Return the sign of a status."""
        if status == StepStatus.RUNNING:
            if self.live and self.held:
                return (SPINNER[int(self.now.timestamp() * FRAMES) % len(SPINNER)], MARKS[status][1])
            if not self.held:
                return MARKS["scheduled"]
        return MARKS[status]


def draw(
    view: RunView, now: datetime, *, live: bool = False, held: bool = True, height: int | None = None
) -> RenderableType:
    """Return the picture of a run, in at most `height` lines: the latest stages are kept.

    A run that is not `held` has no stage that runs, whatever its events tell.
    """
    from rich.console import Group

    moment = Moment(now, live, held and view.status is RunStatus.RUNNING)
    blocks = _fitted(list(_blocks(view, moment)), None if height is None else height - 1)
    rows = list(_guided(blocks))
    width = max((_width(row.label) for row in rows if row.detail or row.time), default=0)
    return Group(_line(_head(view, moment), 0), *(_line(row, width) for row in rows))


def _line(row: Row, width: int) -> Text:
    """Return a line: label, time, detail in columns; a label that stands alone may be as long as it likes."""
    parts = row.label
    if row.detail or row.time:
        space = " " * (width - _width(row.label))
        parts = [*parts, space, (f"{row.time:>8}", "bright_black")]
    if row.detail:
        parts = [*parts, "  ", *row.detail]
    line = text_of(*parts)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _width(parts: list[Part]) -> int:
    from rich.cells import cell_len

    return sum(cell_len(part if isinstance(part, str) else part[0]) for part in parts)


def _head(view: RunView, moment: Moment) -> Row:
    status = view.status.value
    detail: list[Part] = [(status, MARKS[status][1])]
    if view.total:
        detail.append((f"  {view.completed:,} of {plural(view.total, 'stage')} completed", "bright_black"))
    if view.reason and view.status is not RunStatus.COMPLETED:
        detail.append((f"  {cut(view.reason, 200)}", MARKS[status][1]))
    time = duration(between(view.begun, view.ended, moment.now))
    return Row([moment.sign(status), " ", (view.workflow, "bold")], detail, time)


def _blocks(view: RunView, moment: Moment) -> Iterator[Block]:
    for decision in view.first:
        for row in _decision(decision):
            yield Block(row, [])
    for group in view.groups:
        choices = [row for decision in group.decisions for row in _decision(decision)]
        yield Block(_group(group, moment), [*_items(group, moment), *choices])
    if view.status not in ENDED and view.status is not RunStatus.PAUSED:
        yield from _waits(view, moment)


def _fitted(blocks: list[Block], height: int | None) -> list[Block]:
    """Return the last blocks that fit, under a line that tells how many do not."""
    if height is None or sum(block.height for block in blocks) <= height:
        return blocks
    room, kept = height - 1, len(blocks)
    while kept and blocks[kept - 1].height <= room:
        kept -= 1
        room -= blocks[kept].height
    if kept == len(blocks):  # the last alone is too high
        last = blocks[-1]
        return [Block(last.row, last.children[: max(0, height - 1)])]
    return [Block(Row([(f"… {kept:,} earlier", "bright_black")]), []), *blocks[kept:]]


def _guided(blocks: list[Block]) -> Iterator[Row]:
    for number, block in enumerate(blocks, 1):
        last = number == len(blocks)
        yield _under("└─ " if last else "├─ ", block.row)
        for count, child in enumerate(block.children, 1):
            turn = "└─ " if count == len(block.children) else "├─ "
            yield _under(("   " if last else "│  ") + turn, child)


def _under(guide: str, row: Row) -> Row:
    return Row([(guide, "bright_black"), *row.label], row.detail, row.time)


# --- stages


def _group(group: GroupView, moment: Moment) -> Row:
    stage = group.only
    if stage is not None:
        return _stage(stage, moment)
    status = group.status
    if status is StepStatus.RETRYING and any(not s.waits(moment.now) for s in group.telling.values()):
        status = StepStatus.RUNNING
    total, done = len(group.stages), group.counts[StepStatus.COMPLETED]
    detail: list[Part] = [*_bar(done / total), f" {done:,}/{total:,}"] if group.open else []
    waiting = sum(stage.waits(moment.now) for stage in group.telling.values())
    failed, cancelled = group.counts[StepStatus.FAILED], group.counts[StepStatus.CANCELLED]
    for count, word in ((waiting, "retrying"), (failed, "failed"), (cancelled, "cancelled")):
        if count:
            detail.append((f"  {count:,} {word}", MARKS[word][1]))
    if group.cached:
        detail.append((f"  {group.cached:,} from the cache", "bright_black"))
    if group.retries > waiting:
        detail.append((f"  {plural(group.retries, 'retry', 'retries')}", "bright_black"))
    time = duration(between(group.begun, group.ended, moment.now))
    return Row([moment.sign(status), " ", group.name, (f" {TIMES}{total:,}", "bright_black")], detail, time)


def _items(group: GroupView, moment: Moment) -> Iterator[Row]:
    """Yield the stages of a large group that are worth a line: failed ones, those that wait, those with progress."""
    if group.only is not None:
        return
    order = {StepStatus.FAILED: 0, StepStatus.RETRYING: 1, StepStatus.RUNNING: 2}
    told = sorted(group.telling.values(), key=lambda stage: (order.get(stage.status, 3), stage.iteration))
    for stage in told[:ITEMS]:
        yield _stage(stage, moment, numbered=True)
    if len(told) > ITEMS:
        yield Row([(f"… {len(told) - ITEMS:,} more", "bright_black")])


def _stage(stage: StageView, moment: Moment, *, numbered: bool = False) -> Row:
    waits = stage.waits(moment.now)
    status = StepStatus.RUNNING if stage.status is StepStatus.RETRYING and not waits else stage.status
    detail: list[Part] = []
    if waits:
        left = countdown(stage.since, moment.now)
        detail = [(f"attempt {stage.attempt} in {left}", "yellow")]
    elif stage.attempt > 1:
        detail = [(f"attempt {stage.attempt}", "yellow" if stage.is_open else "bright_black")]
    elif stage.cached:
        detail = [("from the cache", "bright_black")]
    if stage.is_open and stage.percent is not None:
        detail += [*_gap(detail), *_bar(stage.percent / 100), f" {stage.percent:.0f}%"]
        detail += [f"  {cut(stage.message, 60)}"] if stage.message else []
    why = stage.error or ("" if stage.reason in ("", "failed") else stage.reason)
    if why and status is not StepStatus.COMPLETED:
        detail += [*_gap(detail), (cut(why, 200), _WHY.get(status, "bright_black"))]
    time = stage.duration if not stage.is_open else between(stage.since, None, moment.now)
    shown = "" if waits or (stage.is_open and not moment.held) else duration(time)
    label = stage_label(stage.name, stage.iteration, numbered=numbered)
    return Row([moment.sign(status), " ", label], detail, shown)


def _gap(before: list[Part]) -> list[Part]:
    return ["  "] if before else []


def _bar(part: float) -> list[Part]:
    filled = round(min(max(part, 0.0), 1.0) * BAR)
    return [("█" * filled, "cyan"), ("░" * (BAR - filled), "bright_black")]


# --- decisions and waits


def _decision(decision: DecisionView) -> Iterator[Row]:
    if not decision.is_telling:
        return
    edges = sorted(decision.edges, key=lambda edge: not edge["result"])
    for edge in edges[:EDGES]:
        yield Row(edge_parts(edge))
    if len(edges) > EDGES:
        yield Row([(f"… {len(edges) - EDGES:,} more", "bright_black")])


def edge_parts(edge: dict[str, Any]) -> list[Part]:
    """Return an edge that was tried: where to, how often, its name and why; one that was not taken is dim."""
    taken = edge["result"]
    times = f" {TIMES}{edge['count']:,}" if edge["count"] > 1 else ""
    why = ", ".join(word for word in (edge["name"], edge["reason"]) if word)
    to = f" {edge['to_node'] or 'nowhere'}{times}"
    return [
        TAKEN if taken else NOT_TAKEN,
        to if taken else (to, "bright_black"),
        (f"  {why}", "bright_black"),
    ]


def _waits(view: RunView, moment: Moment) -> Iterator[Block]:
    """Yield what the run waits for: what its events tell, and what only its row knows."""
    told = set()
    for wait in view.waits.values():
        told.add(wait.name)
        detail: list[Part] = []
        if wait.until is not None:
            detail = [(f"until {clock(wait.until)}, in {countdown(wait.until, moment.now)}", "bright_black")]
        elif wait.kind == "signal":
            detail = [(f"holdfast signal {view.id} {wait.name} JSON", "bright_black")]
        yield Block(Row([MARKS["waiting"], f" {wait.kind} {wait.name}"], detail), [])
    for reason in view.waiting_on:
        what, _, name = reason.partition(" ")
        if what not in ("timer", "retry") and name not in told:
            yield Block(Row([MARKS["waiting"], f" waits for {reason}"]), [])
