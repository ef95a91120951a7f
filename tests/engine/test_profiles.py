"""Profiles: kept, merged over the code field by field, pinned by each run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from holdfast import END, START, Engine, RetryPolicy, State, StateGraph, StepContext, blocking, interrupt
from holdfast.errors import PayloadRejected, RunFailed, WorkflowNotFound
from holdfast.model.profile import MOST_BYTES
from holdfast.patterns.graph.factory import GraphWorkflow
from holdfast.profiles import Profile, StageProfile
from holdfast.registry import Registry

CODED = StageProfile(agent="eyes", prompt="Look.", options={"threshold": 0.4, "filters": ["contrast"]})


def told(profile: StageProfile) -> dict[str, Any]:
    return {"agent": profile.agent, "prompt": profile.prompt, "options": dict(profile.options)}


def seen(state: State, step: StepContext) -> dict[str, Any]:
    return {step.name: told(step.profile)}


def graph() -> StateGraph:
    made = StateGraph("classify").add_node("detect", seen, profile=CODED).add_node("score", seen)
    return made.add_edge(START, "detect").add_edge("detect", "score").add_edge("score", END)


@pytest.fixture
async def engine(url: str, registry: Registry) -> AsyncIterator[Engine]:
    async with Engine(url, registry=registry, observers=()) as opened:
        yield opened


async def test_without_a_profile_the_code_says_it(engine: Engine) -> None:
    result = await engine.execute(graph())

    assert result == {"detect": told(CODED), "score": told(StageProfile())}


async def test_a_profile_goes_over_the_code_field_by_field(engine: Engine) -> None:
    over = StageProfile(options={"threshold": 0})
    await engine.save_profile(
        graph(), Profile("aggressive", {"detect": over, "score": StageProfile(prompt="")})
    )

    result = await engine.execute(graph(), profile="aggressive")

    assert result["detect"] == told(StageProfile("eyes", "Look.", {"threshold": 0, "filters": ["contrast"]}))
    assert result["score"]["prompt"] == ""


async def test_a_run_keeps_what_its_profile_said_when_it_was_started(url: str, registry: Registry) -> None:
    def ask(state: State, step: StepContext) -> dict[str, Any]:
        interrupt("go on")
        return {"prompt": step.profile.prompt}

    waiting = StateGraph("waiting").add_node("ask", ask, profile=StageProfile(prompt="coded"))
    waiting.add_edge(START, "ask").add_edge("ask", END)
    async with Engine(url, registry=registry, observers=()) as engine:
        await engine.save_profile(waiting, Profile("p", {"ask": StageProfile(prompt="old")}))
        run = await engine.start(waiting, profile="p")
        await anext(run.events(types=["wait.started"]))
        await engine.save_profile(waiting, Profile("p", {"ask": StageProfile(prompt="new")}))

    async with Engine(url, registry=registry, observers=()) as engine:
        await engine.signal(run.id, "go on")
        assert await engine.result(run.id) == {"prompt": "old"}
        fork = await engine.fork(run.id, at=1)
        await engine.signal(fork.id, "go on")
        assert await fork.result() == {"prompt": "old"}
        fresh = await engine.start(waiting, profile="p")
        await fresh.signal("go on")
        assert await fresh.result() == {"prompt": "new"}


async def test_every_attempt_has_the_same_settings(engine: Engine) -> None:
    prompts: list[str | None] = []

    async def fail_once(state: State, step: StepContext) -> None:
        prompts.append(step.profile.prompt)
        if step.attempt == 1:
            await engine.save_profile("twice", Profile("p", {"work": StageProfile(prompt="new")}))
            raise OSError

    twice = StateGraph("twice").add_node("work", fail_once, retry=RetryPolicy(attempts=2, backoff=0))
    twice.add_edge(START, "work").add_edge("work", END)
    await engine.save_profile(twice, Profile("p", {"work": StageProfile(prompt="old")}))

    await engine.execute(twice, profile="p")

    assert prompts == ["old", "old"]


async def test_profiles_are_listed_as_they_were_saved(engine: Engine) -> None:
    one = Profile("one", {"detect": StageProfile(options={"sizes": (1, 2)})})
    await engine.save_profile(graph(), Profile("one"))
    await engine.save_profile(graph(), one)
    await engine.save_profile("classify", Profile("other"))

    assert await engine.profiles("classify") == {"one": one, "other": Profile("other")}


async def test_a_deleted_profile_is_gone_for_new_runs_alone(engine: Engine) -> None:
    def ask(state: State, step: StepContext) -> dict[str, Any]:
        interrupt("go on")
        return {"prompt": step.profile.prompt}

    waiting = StateGraph("waiting").add_node("ask", ask).add_edge(START, "ask").add_edge("ask", END)
    await engine.save_profile(waiting, Profile("p", {"ask": StageProfile(prompt="kept")}))
    run = await engine.start(waiting, profile="p")
    for _ in range(2):
        await engine.delete_profile("waiting", "p")
    assert await engine.profiles("waiting") == {}
    with pytest.raises(PayloadRejected, match="no profile 'p'"):
        await engine.start(waiting, profile="p")
    await run.signal("go on")
    assert await run.result() == {"prompt": "kept"}


async def test_profiles_of_a_workflow_that_nobody_registers_can_be_seen_and_deleted(url: str) -> None:
    async with Engine(url, registry=Registry(), observers=()) as engine:
        await engine.save_profile(graph(), Profile("left"))
    async with Engine(url, registry=Registry(), observers=(), workers=False) as client:
        assert list(await client.profiles("classify")) == ["left"]
        await client.delete_profile("classify", "left")
        await client.start(graph())  # registers it here
        assert await client.profiles("classify") == {}


async def test_an_unknown_profile_is_refused_with_those_that_there_are(engine: Engine) -> None:
    await engine.save_profile(graph(), Profile("gentle"))

    with pytest.raises(PayloadRejected, match="no profile 'hasty'") as caught:
        await engine.start(graph(), profile="hasty")

    assert caught.value.field == "profile"
    assert "gentle" in caught.value.fix
    assert await engine.count() == 0


async def test_a_profile_for_an_unknown_stage_is_refused(engine: Engine) -> None:
    await engine.save_profile(graph(), Profile("wrong", {"detects": StageProfile()}))

    with pytest.raises(PayloadRejected, match="sets the stage 'detects'") as caught:
        await engine.start(graph(), profile="wrong")

    assert "detect, score" in caught.value.fix
    assert await engine.count() == 0


async def test_a_profile_of_an_unknown_workflow_is_refused(engine: Engine) -> None:
    with pytest.raises(WorkflowNotFound):
        await engine.save_profile("nobody", Profile("p"))
    with pytest.raises(WorkflowNotFound):
        await engine.profiles("nobody")
    with pytest.raises(WorkflowNotFound):
        await engine.delete_profile("nobody", "p")


async def test_a_factory_that_raises_still_fails_its_run(engine: Engine, registry: Registry) -> None:
    def broken(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> State:
        raise RuntimeError("no database")

    workflow = GraphWorkflow("broken", broken)
    await engine.save_profile(workflow, Profile("p", {"any": StageProfile()}))

    with pytest.raises(RunFailed, match="no database"):
        await engine.execute(workflow, profile="p")


async def test_a_profile_with_a_secret_of_the_run_is_refused(engine: Engine) -> None:
    await engine.save_profile(graph(), Profile("leaky", {"detect": StageProfile(prompt="use t0p-s3cret")}))

    with pytest.raises(PayloadRejected, match="secret 'token'"):
        await engine.start(graph(), profile="leaky", secrets={"token": "t0p-s3cret"})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Profile(""),
        lambda: Profile("p", {"detect": {"prompt": "x"}}),  # type: ignore[dict-item]  # on purpose
        lambda: Profile("p", ["detect"]),  # type: ignore[arg-type]  # on purpose
        lambda: StageProfile(agent=7),  # type: ignore[arg-type]  # on purpose
        lambda: StageProfile(prompt=b"x"),  # type: ignore[arg-type]  # on purpose
        lambda: StageProfile(options=[1]),  # type: ignore[arg-type]  # on purpose
        lambda: Profile("p", {"a": StageProfile(options={"f": print})}).pack(),
        lambda: Profile("p", {"a": StageProfile(prompt="x" * MOST_BYTES)}).pack(),
    ],
    ids=["name", "stage", "stages", "agent", "prompt", "options", "function", "size"],
)
def test_what_is_no_profile_is_refused(make: Any) -> None:
    with pytest.raises(PayloadRejected):
        make()


async def test_a_journal_from_before_profiles_is_read(engine: Engine) -> None:
    run = await engine.start(graph())
    await run.result()
    started = (await run.journal())[0]

    assert "profile" not in started
    assert msgspec.json.encode(started["fact"]) == b'"RunStarted"'


def test_synchronous_callers_have_them_too(url: str, registry: Registry) -> None:
    with blocking.Engine(url, registry=registry, observers=()) as engine:
        engine.save_profile(graph(), Profile("p", {"detect": StageProfile(agent="ears")}))

        assert engine.execute(graph(), profile="p")["detect"]["agent"] == "ears"
        assert list(engine.profiles("classify")) == ["p"]
        engine.delete_profile("classify", "p")
        assert engine.profiles("classify") == {}
