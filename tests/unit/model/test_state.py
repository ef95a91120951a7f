"""A State does not change, gives what a reload would give, and keeps secrets to itself."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import PayloadRejected, StoreError
from holdfast.model.state import LARGE, State, reference, split_large
from holdfast.model.values import Raw, decode, encode, encode_map

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Counted(dict[str, Raw]):
    """A base that tells which keys were asked for."""

    def __init__(self, data: Mapping[str, object]) -> None:
        super().__init__(encode_map(data))
        self.asked: list[str] = []

    def __getitem__(self, key: str) -> Raw:
        self.asked.append(key)
        return super().__getitem__(key)


def view(data: Mapping[str, object] | None = None, **options: Any) -> State:
    return State.view(encode_map(data or {"a": 1, "pages": [{"n": 1}]}), **options)


# Reading


def test_it_is_a_mapping() -> None:
    state = State({"a": 1, "b": None})
    assert isinstance(state, Mapping)
    assert state["a"] == 1
    assert (state.get("a"), state.get("b", 2), state.get("c"), state.get("c", 3)) == (1, None, None, 3)
    assert "b" in state
    assert "c" not in state
    assert list(state) == ["a", "b"]
    assert dict(state) == {"a": 1, "b": None}
    assert len(state) == 2
    assert len(State()) == 0
    with pytest.raises(KeyError, match="'c'"):
        state["c"]
    with pytest.raises(TypeError):
        state["a"] = 2  # type: ignore[index]
    with pytest.raises(TypeError, match="unhashable"):
        hash(state)


def test_it_knows_its_place() -> None:
    assert (State().run_id, State().checkpoint_node, State().timestamp) == ("", "", None)
    state = State({"a": 1}, run_id="r", checkpoint_node="n", timestamp=NOW)
    for derived in (
        state,
        state.set("a", 2),
        state.delete("a"),
        state.merge(State({"b": 1}, run_id="other")),
    ):
        assert (derived.run_id, derived.checkpoint_node, derived.timestamp) == ("r", "n", NOW)


def test_equality_is_that_of_the_data() -> None:
    assert State({"a": [1]}) == {"a": [1]}
    assert State({"a": 1}, run_id="r") == State({"a": 1}).set_secret("x", "t0p")
    assert State({"a": 1}) != State({"a": 2})
    assert view({"a": 1, "b": 2}).delete("b") == State().set("a", 1)


def test_a_value_is_decoded_when_it_is_first_read_and_once() -> None:
    base = Counted({"a": [1], "b": [2]})
    state = State.view(base)
    assert "a" in state
    assert list(state) == ["a", "b"]
    assert base.asked == []
    assert state["a"] is state["a"]
    assert base.asked == ["a"]


def test_nodes_do_not_disturb_each_other() -> None:
    base = encode_map({"pages": [{"n": 1}]})
    first, second = State.view(base), State.view(base)
    first["pages"][0]["n"] = 99
    assert second["pages"] == [{"n": 1}]
    assert first.set("x", 1)["pages"] == [{"n": 1}]


# Deriving


def test_it_does_not_change() -> None:
    state = State({"a": 1})
    assert state.set("a", 2) == {"a": 2}
    assert state.set("b", 2).delete("a") == {"b": 2}
    assert state.delete("missing") == {"a": 1}
    assert state.merge({"b": 1}, c=2) == {"a": 1, "b": 1, "c": 2}
    assert state == {"a": 1}


def test_a_value_that_was_set_is_what_a_reload_gives() -> None:
    pages = [1]
    state = State().set("pages", pages)
    pages.append(2)
    assert state["pages"] == [1]
    assert State().set("t", (1, {2}))["t"] == (1, {2})


def test_what_cannot_be_stored_is_refused_where_it_is_set() -> None:
    with pytest.raises(PayloadRejected, match=r"^pages\[1\] is of type object"):
        State().set("pages", [0, object()])
    with pytest.raises(PayloadRejected, match=r"^lock is of type object"):
        State({"lock": object()})
    with pytest.raises(PayloadRejected, match=r"^b is of type object"):
        State().merge({"a": 1}, b=object())
    with pytest.raises(PayloadRejected, match="is no text"):
        State().set(1, 1)  # type: ignore[arg-type]


def test_the_base_is_neither_copied_nor_changed() -> None:
    base = Counted({"a": 1, "b": 2})
    state = State.view(base)
    state = state.set("a", 5).set("c", 6).delete("b").set("b", 7).delete("c")
    assert base.asked == []
    assert state == {"a": 5, "b": 7}
    assert list(base) == ["a", "b"]


def test_merge_lets_the_other_win_and_keeps_its_own_secrets() -> None:
    state = State({"a": 1, "b": 1}).set_secret("token", "mine")
    other = State({"b": 2, "c": 3}).set_secret("token", "theirs").set_secret("more", "x")
    merged = state.merge(other, c=4)
    assert merged == {"a": 1, "b": 2, "c": 4}
    assert merged.get_secret("token") == "mine"
    assert merged.get_secret("more") is None
    assert state.merge() == state


def test_merging_two_that_derive_from_one_records_the_differences_only() -> None:
    given = view({"a": 1, "b": 2, "c": 3})
    merged = given.set("b", 5).merge(given.set("a", 9).delete("c"))
    assert merged == {"a": 9, "b": 2, "c": 3}
    assert sorted(merged.changes()) == ["a", "b"]


def test_it_tells_the_engine_what_changed() -> None:
    given = view({"a": 1, "b": 2, "c": 3})
    state = given.set("a", 5).set("d", 6).delete("b").delete("d").delete("c").set("c", 8)
    assert {key: decode(raw) for key, raw in state.changes().items()} == {"a": 5, "c": 8}
    assert state.deleted() == ("b",)
    assert {key: decode(raw) for key, raw in state.encoded().items()} == {"a": 5, "c": 8}
    assert list(state) == ["a", "c"]
    assert "b" not in state
    with pytest.raises(KeyError, match="'b'"):
        state["b"]
    assert sorted(State({"x": 1}).set("y", 2).changes()) == ["x", "y"]


def test_what_was_made_from_a_state_is_recognised() -> None:
    given, twin = view({"a": 1}), view({"a": 1})
    for derived in (given, given.set("b", 1), given.delete("a").merge(twin), given.set_secret("t", "t0p")):
        assert derived.derived_from(given)
        assert not derived.derived_from(twin)
    assert not State(given).derived_from(given)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers()),
    st.lists(
        st.tuples(st.just("set"), st.sampled_from("abcdef"), st.integers())
        | st.tuples(st.just("delete"), st.sampled_from("abcdef"))
        | st.tuples(st.just("merge"), st.dictionaries(st.sampled_from("abcdef"), st.integers()))
    ),
)
def test_it_follows_a_dict(data: dict[str, int], calls: list[tuple[Any, ...]]) -> None:
    given = State.view(encode_map(data))
    state, model = given, dict(data)
    for name, *arguments in calls:
        state = getattr(state, name)(*arguments)
        match name, *arguments:
            case "set", key, value:
                model[key] = value
            case "delete", key:
                model.pop(key, None)
            case "merge", other:
                model.update(other)
    assert state == model
    assert len(state) == len(model)
    assert given == data
    replayed = {
        key: raw for key, raw in given.encoded().items() if key not in state.deleted()
    } | state.changes()
    assert {key: decode(raw) for key, raw in replayed.items()} == model


# Secrets


def test_secrets_have_a_namespace_of_their_own() -> None:
    state = State({"token": "data"}).set_secret("token", "t0p")
    assert state["token"] == "data"
    assert state.get_secret("token") == "t0p"
    assert state.delete_secret("token").get_secret("token", "none") == "none"
    assert state.delete_secret("missing").known_secrets().names == ("token",)
    assert State().get_secret("token") is None
    assert view(secrets={"token": "t0p"}).set("a", 2).get_secret("token") == "t0p"
    with pytest.raises(PayloadRejected, match="is of type int"):
        State().set_secret("token", 1)  # type: ignore[arg-type]


def test_secrets_are_never_shown_or_stored() -> None:
    state = State({"a": 1, "leak": "x t0ps3cret x"}).set_secret("token", "t0ps3cret")
    assert "t0ps3cret" not in repr(state)
    assert "t0ps3cret" not in f"{state} {state!r}"
    clean = state.delete("leak")
    for shown in (repr(clean), str(dict(clean)), json.dumps(dict(clean)), str(list(clean.items()))):
        assert "token" not in shown
    assert all(b"t0p" not in bytes(raw) for raw in clean.encoded().values())
    with pytest.raises(TypeError):
        msgspec.json.encode(state)


def test_a_secret_at_the_end_of_what_is_shown_is_not_left_in_half() -> None:
    state = State({"leak": "x" * 52 + "t0ps3cret"}).set_secret("token", "t0ps3cret")
    assert "t0p" not in repr(state)


def test_copies() -> None:
    state = State({"a": [1]}, run_id="r").set_secret("token", "t0p")
    assert copy.copy(state) is state
    deep = copy.deepcopy(state)
    deep["a"].append(2)
    assert state["a"] == [1]
    assert deep.get_secret("token") == "t0p"
    with pytest.raises(TypeError, match="secrets is not pickled"):
        pickle.dumps(state)
    again = pickle.loads(pickle.dumps(state.delete_secret("token").set("$b", (1,))))  # noqa: S301 - our own
    assert again == {"a": [1], "$b": (1,)}
    assert again.run_id == "r"


# The representation


def test_repr_is_short() -> None:
    assert repr(State({"a": 1, "b": "x"})) == """State({'a': 1, 'b': "x"})"""
    assert repr(State()) == "State({})"
    text = repr(State({"long": "x" * 10_000, "deep": [[1]]}))
    assert len(text) < 200
    assert "…" in text


# Mutations


def test_a_change_in_place_is_found() -> None:
    state = view({"a": 1, "pages": [{"n": 1}], "other": [1]})
    assert state.mutated() is None
    state["pages"][0]["n"] = 2
    assert state["other"] == [1]
    assert state.mutated() == "pages"
    assert state.mutated(besides={"pages"}) is None
    state["other"].append(object())
    assert state.mutated(besides=["pages"]) == "other"


def test_a_watched_state_sees_what_is_read_from_its_descendants() -> None:
    given = view({"pages": [1]}, watch=True)
    given.set("a", 1).set("b", 2)["pages"].append(2)
    assert given.mutated() == "pages"
    quiet = view({"pages": [1]})
    quiet.set("a", 1)["pages"].append(2)
    assert quiet.mutated() is None


def test_a_change_of_what_was_set_is_found() -> None:
    state = view().set("found", [1])
    state["found"].append(2)
    assert state.mutated() == "found"


def test_other_bytes_of_an_equal_value_are_no_mutation() -> None:
    state = State.view({"a": Raw(b'{"$set": [3, 1]}'), "b": Raw(b"[1, 2.50]")})
    assert (state["a"], state["b"]) == ({1, 3}, [1, 2.5])
    assert state.mutated() is None


# Large values


def test_large_values_are_kept_apart() -> None:
    large = "x" * (LARGE + 1)
    values, blobs = split_large(encode_map({"a": 1, "big": large, "again": large, "edge": "x" * (LARGE - 2)}))
    [(digest, blob)] = blobs.items()
    assert len(digest) == 32
    assert json.loads(blob) == large
    assert bytes(values["big"]) == f'{{"$ref":"{digest}"}}'.encode()
    assert reference(values["big"]) == reference(values["again"]) == digest
    assert reference(values["a"]) is reference(values["edge"]) is None

    state = State.view(values, blobs=blobs)
    assert state["big"] == large
    assert state.set("b", 1)["again"] == large
    assert reference(state.encoded()["big"]) == digest
    assert decode(state.detached()["big"]) == large
    assert State().merge(state)["big"] == large
    assert State(state)["big"] == large
    assert pickle.loads(pickle.dumps(state))["big"] == large  # noqa: S301 - our own
    assert state.mutated() is None
    assert len(repr(state)) < 400


def test_a_lost_large_value_is_a_clear_error() -> None:
    values, _ = split_large(encode_map({"big": "x" * 100}), limit=50)
    with pytest.raises(StoreError, match="is missing"):
        State.view(values)["big"]


def test_a_value_of_the_user_is_never_taken_for_a_reference() -> None:
    forged = {"$ref": "0" * 32}
    raw = encode(forged)
    assert reference(raw) is None
    assert State({"a": forged})["a"] == forged
    assert reference(encode('{"$ref":"' + "0" * 29)) is None
