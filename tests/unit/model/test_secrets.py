"""A secret is found in what would be written, blotted out of text, and never shown."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from holdfast.errors import PayloadRejected
from holdfast.model.secrets import Secrets
from holdfast.model.values import encode, encode_map

TOKEN = 't0p "s€cret"/\\'


def test_it_is_a_mapping_that_shows_names_only() -> None:
    secrets = Secrets({"token": "t0p", "key": "hidden"})
    assert secrets.names == ("token", "key")
    assert secrets.get("token") == "t0p"
    assert secrets.get("other") is None
    assert secrets.get("other", "x") == "x"
    assert dict(secrets) == {"token": "t0p", "key": "hidden"}
    assert len(secrets) == 2
    assert bool(Secrets()) is False
    assert repr(secrets) == f"{secrets}" == "Secrets('token', 'key')"


def test_only_text_can_be_one() -> None:
    with pytest.raises(PayloadRejected, match="'token' is of type dict") as caught:
        Secrets({"token": {"a": "t0p"}})  # type: ignore[dict-item]
    assert "t0p" not in str(caught.value)
    assert caught.value.field == "token"


def test_it_is_not_pickled_and_copies_are_itself() -> None:
    secrets = Secrets({"token": "t0p"})
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secrets)
    assert copy.copy(secrets) is secrets
    assert copy.deepcopy([secrets])[0] is secrets


@pytest.mark.parametrize(
    "value",
    [
        TOKEN,
        {"a": [f"Bearer {TOKEN}!"]},
        {TOKEN: 1},
        f"before {TOKEN}".encode(),
        [{"x": TOKEN.encode()}],
        json.dumps({"nested": TOKEN}, ensure_ascii=False),
    ],
    ids=["whole", "nested", "key", "bytes", "nested bytes", "JSON in text"],
)
def test_it_is_found_in_encoded_values(value: object) -> None:
    secrets = Secrets({"other": "nothing", "token": TOKEN})
    raw = encode(value)
    assert secrets.find(raw) == "token"
    assert secrets.find(bytes(raw)) == "token"
    assert secrets.find(bytes(raw).decode()) == "token"
    assert Secrets({"other": "nothing"}).find(raw) is None


def test_it_is_found_in_json_that_escapes_all_but_ascii() -> None:
    assert Secrets({"token": "s€cret"}).find(json.dumps({"a": "my s€cret"})) == "token"


def test_a_short_one_is_found_as_a_whole_string_only() -> None:
    secrets = Secrets({"pin": "42", "none": ""})
    assert secrets.find(encode({"a": "42"})) == "pin"
    assert secrets.find(encode({"a": 42, "b": "the 42nd", "c": "", "d": b"42"})) is None
    assert secrets.scrub("42 of 142, but '42' and \"42\"") == "42 of 142, but [secret pin] and [secret pin]"


def test_text_is_scrubbed_of_each_form() -> None:
    secrets = Secrets({"token": "a/b c€", "longer": "a/b c€ and more", "line": "from a file\n"})
    assert secrets.scrub("got a/b c€!") == "got [secret token]!"
    assert secrets.scrub("got a/b c€ and more!") == "got [secret longer]!"
    assert secrets.scrub("https://x/?t=a%2Fb%20c%E2%82%AC") == "https://x/?t=[secret token]"
    assert secrets.scrub(json.dumps("a/b c€")) == '"[secret token]"'
    assert secrets.scrub("it read from a file.") == "it read [secret line]."
    assert secrets.scrub("nothing here") == "nothing here"
    assert Secrets().scrub("nothing here") == "nothing here"
    assert Secrets({"empty": ""}).scrub("nothing here") == "nothing here"


def test_a_refusal_names_key_and_secret_and_never_the_value() -> None:
    secrets = Secrets({"token": "t0ps3cret"})
    secrets.refuse(encode_map({"a": 1, "b": "fine"}), "node 'detect'")
    with pytest.raises(PayloadRejected) as caught:
        secrets.refuse(encode_map({"a": 1, "header": ["Bearer t0ps3cret"]}), "node 'detect'")
    assert str(caught.value) == "node 'detect': header contains the secret 'token', which is never stored"
    assert caught.value.field == "header"
    with pytest.raises(PayloadRejected) as caught:
        secrets.refuse(encode_map({"x t0ps3cret": 1}), "params")
    assert "t0ps3cret" not in str(caught.value) + caught.value.field + caught.value.fix
    Secrets().refuse(encode_map({"header": "t0ps3cret"}))


def test_bytes_that_are_no_base64_are_passed_over() -> None:
    assert Secrets({"token": "t0ps3cret"}).find(b'{"$bytes":"a"}') is None
