"""Secrets: values that live in memory only, and the guard that keeps them out of everything that is written.

A secret is found in encoded values (`find`, `refuse`) and blotted out of text (`scrub`) in the forms it is likely to
take there: as it is, escaped for JSON, percent-encoded, and inside bytes. Nothing here shows a value: not `repr`, no
error message.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn

import msgspec

from holdfast.errors import PayloadRejected
from holdfast.model.values import Raw, key_step, place

_SHORTEST: Final = 3
"""Characters below which a secret is sought only as a whole JSON string: a shorter one is part of any text."""
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_BYTES: Final = re.compile(rb'"\$bytes":"([^"]*)"')


class Secrets(Mapping[str, str]):
    """The secrets of one run by name. Does not change; made and asked in no time when there are none."""

    __slots__ = ("_forms", "_needles", "_pattern", "_values")

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values: dict[str, str] = dict(values or {})
        for name, value in self._values.items():
            if not isinstance(name, str):
                raise PayloadRejected(
                    f"secrets: a name is of type {type(name).__name__}, and not text",
                    field="secrets",
                    fix="Name each secret by a text.",
                )
            if not isinstance(value, str):
                raise PayloadRejected(
                    f"the secret {name!r} is of type {type(value).__name__}, and not text",
                    field=name,
                    fix="Give it as a string, for instance as JSON.",
                )
        self._forms: dict[str, str] | None = None
        self._needles: list[tuple[bytes, str]] | None = None
        self._pattern: re.Pattern[str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order they were given."""
        return tuple(self._values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(map(repr, self._values))})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled: they stay in the memory of the process that was given them")

    def __copy__(self) -> Secrets:
        return self

    def __deepcopy__(self, _: object) -> Secrets:
        return self

    def find(self, raw: Raw | bytes | str) -> str | None:
        """Return the name of a secret that stands in encoded JSON, or None. O(secrets * bytes)."""
        if not self._values:
            return None
        data = _octets(raw) if isinstance(raw, str) else bytes(raw)
        if self._needles is None:
            self._needles = [(_octets(form), name) for form, name in self._known().items()]
        for needle, name in self._needles:
            if needle in data:
                return name
        return self._find_in_bytes(data) if b'"$bytes"' in data else None

    def _find_in_bytes(self, data: bytes) -> str | None:
        for match in _BYTES.finditer(data):
            try:
                content = binascii.a2b_base64(match[1])
            except ValueError:
                continue
            for name, value in self._values.items():
                if len(value) >= _SHORTEST and _octets(value) in content:
                    return name
        return None

    def scrub(self, text: str) -> str:
        """Return `text` with each secret in it replaced by `[secret NAME]`."""
        if not self._values:
            return text
        known = self._known()
        if self._pattern is None:
            longest_first = sorted(known, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        return self._pattern.sub(lambda match: f"[secret {known[match[0]]}]", text)

    def refuse(self, values: Mapping[str, Raw], where: str = "") -> None:
        """Raise PayloadRejected when a key or value holds a secret, naming key and secret and never its value."""
        if not self._values:
            return
        for key, raw in values.items():
            name = self.find(raw) or self.find(msgspec.json.encode(key))
            if name is not None:
                raise PayloadRejected(
                    f"{self.scrub(place(where, key_step(key)))} contains the secret {name!r}, which is never stored",
                    field=self.scrub(key),
                    fix="Leave it out, and read it with get_secret where it is needed.",
                )

    def _known(self) -> dict[str, str]:
        """Return the name by each form in which a secret may stand in text."""
        if self._forms is None:
            self._forms = {
                form: name for name, value in self._values.items() if value for form in _forms_of(value)
            }
        return self._forms


class Watched(Secrets):
    """The same secrets, with the names of those that were read."""

    __slots__ = ("read",)

    def __init__(self, of: Secrets) -> None:
        super().__init__()
        self._values = of._values  # noqa: SLF001 - of its own kind
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)  # also one that is not there: that tells something, too
        return self._values[name]


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _forms_of(secret: str) -> set[str]:
    escaped = {json.dumps(secret, ensure_ascii=flag) for flag in (True, False)}
    if len(secret) < _SHORTEST:
        return escaped | {repr(secret)}
    forms = {secret} | {quoted[1:-1] for quoted in escaped}
    forms |= {json.dumps(form, ensure_ascii=False)[1:-1] for form in forms}  # JSON in a text in JSON
    forms.add("".join(chr(octet) if octet in _UNRESERVED else f"%{octet:02X}" for octet in _octets(secret)))
    # Read from a file, a secret often ends with a line break that its user strips.
    stripped = secret.strip()
    return forms if stripped == secret or len(stripped) < _SHORTEST else forms | _forms_of(stripped)
