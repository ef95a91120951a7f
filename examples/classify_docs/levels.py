"""Levels and caveats, and how a marking's text is taken apart: pure functions over strings.

The text comes from OCR, so it is forgiving: ``T0P SECRET``, ``SECRETW/SWNOFORN`` and ``5ECRET//N0F0RN`` are
understood. It is strict where forgiveness would invent a marking: ``SECRETARY`` and ``CLASSIFIED BY`` are none.
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from unicodedata import combining, normalize


class Level(IntEnum):
    """Security levels; the higher one wins."""

    UNCLASSIFIED = 0
    CUI = 1
    RESTRICTED = 2
    CONFIDENTIAL = 3
    SECRET = 4
    TOP_SECRET = 5

    @property
    def label(self) -> str:
        """Returns the level as a marking writes it."""
        return self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A marking taken apart."""

    level: Level
    caveats: tuple[str, ...]
    """In the order of a banner line."""
    similarity: float = 1.0
    """1 when the level was spelt right, less for each letter that had to be guessed."""
    share: float = 1.0
    """How much of the line the marking takes up."""

    @property
    def text(self) -> str:
        """Returns the marking in one spelling, whatever the page's was."""
        return marking_text(self.level, self.caveats)


# In the order in which a banner line writes them: control systems first, dissemination after them.
_CAVEATS: Final = (
    "HCS", "SI", "TK", "GAMMA", "FGI", "RD", "FRD", "FOUO", "ORCON", "IMCON",
    "NOFORN", "PROPIN", "RELIDO", "FISA", "LIMDIS", "EXDIS", "NODIS", "LES", "SBU",
)  # fmt: skip
_ABBREVIATIONS: Final = {
    "NF": "NOFORN",
    "OC": "ORCON",
    "PR": "PROPIN",
    "IMC": "IMCON",
    "G": "GAMMA",
    "DS": "LIMDIS",
}
_PORTIONS: Final = {
    "U": Level.UNCLASSIFIED,
    "CUI": Level.CUI,
    "R": Level.RESTRICTED,
    "C": Level.CONFIDENTIAL,
    "S": Level.SECRET,
    "TS": Level.TOP_SECRET,
}
# Words close to a level that are none.
_NOT_LEVELS: Final = frozenset(
    {"CLASSIFIED", "DECLASSIFIED", "SECRETS", "SECRETE", "SECRETED", "CONFIDENTIALLY"}
)
_LOOKALIKES: Final = str.maketrans(
    {"0": "O", "1": "I", "5": "S", "8": "B", "€": "E", "$": "S", "|": "I", "!": "I"}
)
_PORTION_LOOKALIKES: Final = str.maketrans("5\\l", "S/I")
_PAGE_NUMBER: Final = re.compile(
    r"\b(?:PAGE|COPY|SHEET)?\s*\d+\s*(?:OF|/)\s*\d+\b|\b(?:PAGE|COPY|SHEET)\s*\d+\b|^\s*\d+\s*$"
)
# What OCR makes of the double slash when it takes it for letters.
_SLASHES: Final = r"[^A-Z]*[IJLUVW]{0,3}[^A-Z]*"
_LONG_CAVEATS: Final = tuple(caveat for caveat in _CAVEATS if len(caveat) > 3)
_EXACT: Final = re.compile(
    r"(?<![A-Z])(?P<level>TOP[^A-Z]*SECRET|SECRET|CONFIDENTIAL|RESTRICTED|UNCLASSIFIED|CUI"
    r"|CONTROLLED\s+UNCLASSIFIED\s+INFORMATION)"
    rf"(?=$|[^A-Z]|{_SLASHES}(?:{'|'.join(_LONG_CAVEATS)}|REL\s*TO|S[IVW]\b))"
)
_RELEASABLE: Final = re.compile(r"REL\s*TO\s*(?P<countries>[A-Z]{3,4}(?:\s*,\s*[A-Z]{3,4}| +[A-Z]{3,4})*)")
_SI: Final = re.compile(r"^[IJLUVW]{0,3}S[IJLUVW]{0,3}$")
_PORTION: Final = re.compile(r"^\s*[(\[{](?P<inside>[A-Z][A-Za-z/\\, ]{0,40})[)\]}]")


def marking_text(level: Level, caveats: tuple[str, ...]) -> str:
    """Returns a banner line: ``SECRET//NOFORN``."""
    return "//".join((level.label, *caveats))


def in_banner_order(caveats: set[str]) -> tuple[str, ...]:
    """Returns the caveats in the order of a banner line; releasability comes last."""
    known = [caveat for caveat in _CAVEATS if caveat in caveats]
    return (*known, *sorted(caveats.difference(known)))


def parse_banner(text: str) -> Parsed | None:
    """Returns the marking that a line of text holds, or None when it holds none."""
    # Specks above a letter are read as accents.
    plain = "".join(letter for letter in normalize("NFKD", text) if not combining(letter))
    line = _PAGE_NUMBER.sub(" ", plain.upper()).translate(_LOOKALIKES)
    found = _exact_level(line) or _similar_level(line)
    if found is None:
        return None
    level, similarity, start, end = found
    tail = line[end:]
    caveats, used = _caveats(tail)
    letters = _letters(line)
    share = (_letters(line[start:end]) + used) / letters if letters else 0.0
    return Parsed(level, caveats, similarity, min(1.0, share))


def parse_portion(text: str) -> Parsed | None:
    """Returns the portion marking at the head of a paragraph, as in ``(S//NF) The crane``, or None."""
    # A small "l" among capitals is an "I": "(TS//Sl//NF)".
    match = _PORTION.match(text.translate(_PORTION_LOOKALIKES))
    if match is None:
        return None
    level_text, *rest = [part.strip() for part in re.split(r"/+", match["inside"].upper())]
    level = _PORTIONS.get(level_text)
    if level is None:
        return None
    caveats, _ = _caveats("//".join(rest))
    return Parsed(level, caveats)


def parse_marking(text: str) -> Parsed | None:
    """Returns a marking that stands alone, banner or portion, or None."""
    return parse_portion(text) or parse_portion(f"({text})") or parse_banner(text)


def edit_distance(left: str, right: str) -> int:
    """Returns how many letters must be put in, taken out or changed (Levenshtein)."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def _letters(text: str) -> int:
    return sum(character.isalpha() for character in text)


def _exact_level(line: str) -> tuple[Level, float, int, int] | None:
    match = _EXACT.search(line)
    if match is None:
        return None
    name = match["level"]
    if name.startswith("CONTROLLED"):
        level = Level.CUI
    elif name.startswith("TOP"):
        level = Level.TOP_SECRET
    else:
        level = Level[name]
    start = match.start("level")
    # "T0P" and "TQP" before SECRET: losing the higher level would be the worst misreading of all.
    before = re.search(r"([A-Z]{3})[^A-Z]*$", line[:start])
    if level is Level.SECRET and before and edit_distance(before[1], "TOP") == 1:
        return Level.TOP_SECRET, 1 - 1 / 9, before.start(), match.end("level")
    return level, 1.0, start, match.end("level")


def _similar_level(line: str) -> tuple[Level, float, int, int] | None:
    """Returns the level whose name is nearest to a word of the line, if it is near enough."""
    best: tuple[Level, float, int, int] | None = None
    for match in re.finditer(r"TOP[^A-Z]+[A-Z]+|[A-Z]+", line):
        word = re.sub(r"[^A-Z]", "", match[0])
        if word in _NOT_LEVELS:
            continue
        tail_has_caveat = bool(_caveats(line[match.end() :])[0])
        for level in Level:
            similarity = _similarity(word, level.label.replace(" ", ""), lenient=tail_has_caveat)
            if similarity and (best is None or similarity > best[1]):
                best = level, similarity, match.start(), match.end()
    return best


def _similarity(word: str, name: str, *, lenient: bool) -> float:
    """Returns how near the word is to the level's name, 0 when it is not near enough.

    A longer word is accepted only before a caveat: SECRETS is a word of its own, SECRETJ//NOFORN is a misread slash.
    """
    if len(name) < len("SECRET") or (len(word) > len(name) and not lenient):
        return 0.0
    distance = edit_distance(word, name)
    return 1 - distance / len(name) if distance <= len(name) // 6 else 0.0


def _caveats(tail: str) -> tuple[tuple[str, ...], int]:
    """Returns the caveats named after a level and how many letters they take up."""
    found: set[str] = set()
    used = 0
    release = _RELEASABLE.search(tail)
    if release:
        found.add("REL TO " + ", ".join(re.findall(r"[A-Z]+", release["countries"])))
        used += _letters(release[0])
        tail = tail[: release.start()] + " " + tail[release.end() :]
    for word in re.findall(r"[A-Z]+", tail):
        caveats = _caveats_of_word(word)
        found.update(caveats)
        used += len(word) if caveats else 0
    return in_banner_order(found), used


def _caveats_of_word(word: str) -> set[str]:
    if word in _CAVEATS:
        return {word}
    if word in _ABBREVIATIONS:
        return {_ABBREVIATIONS[word]}
    if _SI.match(word):
        return {"SI"}
    inside = next((caveat for caveat in _LONG_CAVEATS if caveat in word), None)
    if inside:
        rest = word.replace(inside, "", 1)
        return {inside, *({"SI"} if _SI.match(rest) else ())}
    return {caveat for caveat in _LONG_CAVEATS if edit_distance(word, caveat) <= len(caveat) // 5}
