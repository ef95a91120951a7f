"""Secrets: seen by nodes, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from holdfast import (
    END,
    START,
    Engine,
    PayloadRejected,
    Run,
    RunFailed,
    RunStatus,
    State,
    StateGraph,
    StepContext,
)
from holdfast.errors import SecretsNeedWorker
from holdfast.registry import Registry, as_workflow
from tests.conftest import OpenEngine
from tests.graphs import PATIENCE, Gate, sequence, until
from tests.stored import contents

SECRET = "correct-horse/battery staple"
FORMS = (SECRET, "correct-horse%2Fbattery%20staple", json.dumps(SECRET)[1:-1].replace("/", "\\/"))
"""The secret as it is, percent-encoded, and as some write it in JSON."""


def tokens(state: State, step: StepContext) -> dict[str, Any]:
    assert state.get_secret("token") == SECRET
    assert step.secrets["token"] == SECRET
    return {"length": len(SECRET)}


async def waits_for_it(engine: Engine, run: str) -> bool:
    row = await engine.get(run)
    return (row.status, row.waiting_on) == (RunStatus.WAITING, ("secret token",))


async def test_a_node_sees_the_secret(engine: Engine) -> None:
    result = await engine.execute(sequence("secret", node=tokens), {"n": 1}, secrets={"token": SECRET})
    assert result == {"n": 1, "length": len(SECRET)}


async def test_a_name_that_was_never_given_reads_none(engine: Engine) -> None:
    graph = sequence("secret", node=lambda s: {"none": s.get_secret("other") is None, "in": "token" in s})
    assert await engine.execute(graph, secrets={"token": SECRET}) == {"none": True, "in": False}


async def test_the_secret_is_in_no_file_log_event_or_page(
    url: str,
    open_engine: OpenEngine,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def loud(state: State, step: StepContext) -> dict[str, int]:
        step.progress(50, f"using {SECRET}")
        step.logger.warning("about to use a token")
        raise ConnectionError(f"https://user:{FORMS[1]}@host refused {SECRET!r}")

    with caplog.at_level(logging.DEBUG):
        engine = await open_engine(url, observers=("logging",))
        run = await engine.start(
            sequence("loud", a=tokens, b=loud), {"n": 1}, secrets={"token": SECRET}, tags=["x"]
        )
        with pytest.raises(RunFailed) as caught:
            await run.result()
        await run.refresh()
        shown = [
            str(caught.value),
            repr(caught.value.error),
            repr(run),
            repr(run.to_dict()),
            repr(await run.journal()),
            repr([stage.to_dict() for stage in await run.stages(inputs=True)]),
            repr([event.to_dict() async for event in run.events()]),
            repr(await run.state()),
            repr([decision.to_dict() for decision in await run.decisions()]),
        ]
        assert "[secret token]" in str(caught.value)
        files = contents(url)
        await engine.close()
    files |= {f"{name} closed": content for name, content in contents(url).items()}
    captured = capsys.readouterr()
    shown += [caplog.text, captured.out, captured.err]
    assert [text for text in shown for form in FORMS if form in text] == []
    assert any(content for content in files.values())
    assert [name for name, content in files.items() for form in FORMS if form.encode() in content] == []
    # Its name is no secret.
    assert any(b'"token"' in content for content in files.values())


@pytest.mark.parametrize(
    ("node", "key"),
    [
        (lambda s: {"leak": s.get_secret("token")}, "leak"),
        (lambda s: {"leak": {"deep": [f"Bearer {s.get_secret('token')}"]}}, "leak"),
        (lambda s: s.set("leak", s.get_secret("token").encode()), "leak"),
    ],
    ids=["plain", "nested", "bytes"],
)
async def test_a_secret_put_into_the_state_is_refused_naming_the_key(
    engine: Engine, node: Any, key: str
) -> None:
    run = await engine.start(sequence("leak", node=node), secrets={"token": SECRET})
    with pytest.raises(RunFailed, match=key) as caught:
        await run.result()
    assert caught.value.stage == "node"
    assert caught.value.error.code == "payload_rejected"
    assert SECRET not in str(caught.value)
    assert SECRET not in caught.value.error.traceback


async def test_a_secret_in_params_or_a_signal_is_refused(engine: Engine) -> None:
    graph = sequence("leak", node=tokens)
    with pytest.raises(PayloadRejected, match="url") as caught:
        await engine.start(graph, {"url": f"https://{SECRET}@host"}, secrets={"token": SECRET})
    assert SECRET not in str(caught.value)
    assert await engine.count() == 0
    gate = Gate()
    run = await engine.start(sequence("leak", node=lambda _: gate.wait()), secrets={"token": SECRET})
    with pytest.raises(PayloadRejected):
        await run.signal("hello", {"token": SECRET})
    gate.open()
    await run.wait()


async def test_a_secret_in_the_first_state_fails_the_run(engine: Engine, registry: Registry) -> None:
    def factory(graph: StateGraph, runtime: Any, params: dict[str, Any]) -> Mapping[str, Any]:
        graph.add_node("a", tokens).set_entry_point("a").set_exit_point("a")
        return {"leak": SECRET}

    registry.add(as_workflow(factory, "leak"))
    run = await engine.start("leak", secrets={"token": SECRET})
    with pytest.raises(RunFailed, match="leak"):
        await run.result()


async def test_a_secret_that_is_no_text_is_refused_by_name(engine: Engine) -> None:
    with pytest.raises(PayloadRejected, match="'token' is of type bytes"):
        await engine.start(sequence("secret", node=tokens), secrets={"token": b"x"})  # type: ignore[dict-item]


async def test_a_client_cannot_keep_secrets_and_says_who_can(url: str, open_engine: OpenEngine) -> None:
    client = await open_engine(url, workers=False)
    with pytest.raises(SecretsNeedWorker) as caught:
        await client.start(sequence("secret", node=tokens), secrets={"token": SECRET})
    assert "worker" in caught.value.fix
    assert await client.count() == 0


# --- secrets and recovery


async def interrupted(url: str, open_engine: OpenEngine) -> tuple[str, StateGraph]:
    """A run with a secret, left by the process that was given it, with its second node still to do."""
    gate = Gate()

    async def first(state: State) -> None:
        await gate.passed()

    graph = sequence("secret", first=first, second=tokens)
    engine = await open_engine(url)
    run = await engine.start(graph, secrets={"token": SECRET})
    await gate.until_reached()
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    gate.open()
    await closing
    return run.id, graph


async def test_a_run_without_its_secret_waits_for_it_and_says_so(url: str, open_engine: OpenEngine) -> None:
    run, _ = await interrupted(url, open_engine)
    engine = await open_engine(url)
    await until(lambda: waits_for_it(engine, run))
    await engine.resume(run, secrets={"token": SECRET})
    assert await engine.result(run, timeout=PATIENCE) == {"length": len(SECRET)}


async def test_a_resume_without_the_secret_changes_nothing(url: str, open_engine: OpenEngine) -> None:
    run, _ = await interrupted(url, open_engine)
    engine = await open_engine(url)
    await until(lambda: waits_for_it(engine, run))
    await engine.resume(run)
    await engine.resume(run, secrets={"other": "something"})
    await until(lambda: waits_for_it(engine, run))


async def test_a_provider_is_asked_for_what_was_not_given(url: str, open_engine: OpenEngine) -> None:
    run, _ = await interrupted(url, open_engine)
    asked: list[tuple[str, str]] = []

    def provide(row: Run, name: str) -> str:
        asked.append((row.id, name))
        return SECRET

    engine = await open_engine(url, secrets=provide)
    assert await engine.result(run, timeout=PATIENCE) == {"length": len(SECRET)}
    assert set(asked) == {(run, "token")}


async def test_a_worker_with_a_provider_takes_up_what_waits_for_a_secret(
    url: str, open_engine: OpenEngine
) -> None:
    run, _ = await interrupted(url, open_engine)
    first = await open_engine(url)
    await until(lambda: waits_for_it(first, run))
    second = await open_engine(url, secrets=lambda *_: SECRET)
    assert await second.result(run, timeout=PATIENCE) == {"length": len(SECRET)}


async def test_a_provider_that_fails_leaves_the_run_waiting(
    url: str, open_engine: OpenEngine, caplog: pytest.LogCaptureFixture
) -> None:
    run, _ = await interrupted(url, open_engine)

    def broken(row: Run, name: str) -> str:
        raise ConnectionError("the vault is sealed")

    engine = await open_engine(url, secrets=broken)
    await until(lambda: waits_for_it(engine, run))
    assert "the vault is sealed" in caplog.text


async def test_a_failed_run_keeps_its_secret_in_the_process_that_was_given_it(engine: Engine) -> None:
    def node(state: State, step: StepContext) -> dict[str, Any]:
        if step.attempt == 1:
            raise ConnectionError
        return tokens(state, step)

    run = await engine.start(sequence("secret", node=node), secrets={"token": SECRET})
    await run.wait()
    await run.resume()
    assert await run.result() == {"length": len(SECRET)}


async def test_a_refused_start_does_not_touch_the_secrets_of_the_run_that_has_the_id(engine: Engine) -> None:
    gate = Gate()

    def node(state: State, step: StepContext) -> dict[str, Any]:
        if step.attempt == 1:
            gate.wait()
            raise ConnectionError
        return tokens(state, step)

    graph = sequence("secret", node=node)
    run = await engine.start(graph, {"n": 1}, id="taken", secrets={"token": SECRET})
    with pytest.raises(Exception, match="exists already"):
        await engine.start(graph, {"n": 2}, id="taken", secrets={"token": "another one"})
    gate.open()
    await run.wait()
    await run.resume()
    assert (await run.result())["length"] == len(SECRET)


async def test_secrets_that_nodes_of_one_round_set_and_drop_are_known_together(engine: Engine) -> None:
    first = asyncio.Event()

    async def a(state: State) -> State:
        return state.set_secret("from-a", "alpha-alpha").delete_secret("given")

    async def b(state: State, step: StepContext) -> State:
        await first.wait()  # it was given what the run knew before `a` had ended
        return state.set_secret("from-b", "beta-beta")

    def then(state: State, step: StepContext) -> dict[str, list[str]]:
        return {"known": sorted(step.secrets)}

    graph = StateGraph("round").add_node("a", a).add_node("b", b).add_node("then", then)
    graph.add_edge(START, "a").add_edge(START, "b").add_edge(["a", "b"], "then").add_edge("then", END)
    run = await engine.start(graph, secrets={"given": "gamma-gamma"})
    await until(lambda: stage_is_done(engine, run.id, "a"))
    first.set()
    result = await run.result(timeout=PATIENCE)
    assert result["known"] == ["from-a", "from-b"]


async def stage_is_done(engine: Engine, run: str, name: str) -> bool:
    return any(s.name == name and s.status == "completed" for s in await engine.stages(run))
