"""What is encoded comes back with its types, or is refused where it stands."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import DefinitionError, PayloadRejected
from holdfast.model.values import Raw, decode, encode, encode_map, pack, register_type, unpack


@register_type
class Level(StrEnum):
    LOW = "low"
    HIGH = "high"


@register_type
class Rights(Flag):
    READ = 1
    WRITE = 2


@register_type
@dataclasses.dataclass
class Page:
    number: int
    scale: float = 1.0
    marks: list[str] = dataclasses.field(default_factory=list)


@register_type(name="frozen-page")
@dataclasses.dataclass(frozen=True, slots=True)
class FrozenPage:
    number: int
    level: Level = Level.LOW


@register_type
class Point(msgspec.Struct, frozen=True):
    x: int
    y: int = 0


@register_type
class Span(NamedTuple):
    first: int
    last: int


class Unregistered(StrEnum):
    ONE = "one"


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal and of the same types all the way down; NaN is the same as NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    if isinstance(left, Decimal) and left.is_nan():
        return str(left) == str(right)
    if isinstance(left, dict):
        return same(list(left), list(right)) and same(list(left.values()), list(right.values()))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set | frozenset):
        return len(left) == len(right) and all(any(same(one, other) for other in right) for one in left)
    if isinstance(left, datetime | time):
        return left == right and left.fold == right.fold and str(left.tzinfo) == str(right.tzinfo)
    if dataclasses.is_dataclass(left) and not isinstance(left, type):
        return same(dataclasses.astuple(left), dataclasses.astuple(right))
    return bool(left == right)


def is_nan(value: Any) -> bool:
    return value.is_nan() if isinstance(value, Decimal) else isinstance(value, float) and math.isnan(value)


def round_trip(value: Any) -> Any:
    return decode(encode(value))


texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["$", "$date", "$dict", "a.b", ""]
)
zones: st.SearchStrategy[tzinfo | None] = st.none() | st.sampled_from(
    [UTC, timezone(timedelta(hours=-3, minutes=-30)), ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.floats()
    | texts
    | st.binary()
    | st.datetimes(timezones=zones)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
    | st.sampled_from([*Level, *Rights, Rights.READ | Rights.WRITE, Path("a/b"), Path("/")])
)
hashables = st.recursive(
    scalars.filter(lambda value: not is_nan(value)),  # no set finds it again
    lambda inner: (
        st.tuples(inner, inner)
        | st.frozensets(inner, max_size=3)
        | st.builds(FrozenPage, st.integers(), st.sampled_from(Level))
        | st.builds(Span, st.integers(), st.integers())
        | st.builds(Point, st.integers(), st.integers())
    ),
    max_leaves=5,
)
values = st.recursive(
    scalars | hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=3)
        | st.tuples(inner)
        | st.sets(hashables, max_size=3)
        | st.builds(Page, st.integers(), st.floats(), st.lists(texts, max_size=2))
    ),
    max_leaves=20,
)


@given(values)
@settings(deadline=None, max_examples=300)
def test_what_is_encoded_comes_back_with_its_types(value: Any) -> None:
    raw = encode(value)
    assert same(decode(raw), value)
    assert msgspec.json.decode(raw) is not msgspec.UNSET, "it is JSON"


@given(values)
@settings(deadline=None, max_examples=100)
def test_encoding_again_gives_the_same_bytes(value: Any) -> None:
    raw = encode(value)
    assert encode(decode(raw)) == raw


@given(st.dictionaries(texts, values, max_size=5))
@settings(deadline=None, max_examples=100)
def test_packed_values_are_one_value_and_many(data: dict[str, Any]) -> None:
    encoded = encode_map(data)
    packed = pack(encoded)
    assert same(decode(packed), data)
    assert {key: bytes(raw) for key, raw in unpack(packed).items()} == {
        k: bytes(v) for k, v in encoded.items()
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, True, "ü"]}, '{"a":[1,2.5,null,true,"ü"]}'),
        (datetime(2026, 11, 21, 9, tzinfo=UTC), '{"$datetime":"2026-11-21T09:00:00+00:00"}'),
        (
            datetime(2026, 7, 1, 9, tzinfo=ZoneInfo("Europe/Berlin")),
            '{"$datetime":["2026-07-01T09:00:00","Europe/Berlin",0]}',
        ),
        (date(2026, 11, 21), '{"$date":"2026-11-21"}'),
        (time(9, 30), '{"$time":"09:30:00"}'),
        (timedelta(days=1, microseconds=1), '{"$timedelta":86400000001}'),
        (UUID(int=1), '{"$uuid":"00000000-0000-0000-0000-000000000001"}'),
        (Decimal("1.10"), '{"$decimal":"1.10"}'),
        (b"\x00\xff", '{"$bytes":"AP8="}'),
        ({3, 1, 2}, '{"$set":[1,2,3]}'),
        ((1, (2,)), '{"$tuple":[1,{"$tuple":[2]}]}'),
        (2**64, '{"$int":"18446744073709551616"}'),
        (float("inf"), '{"$float":"inf"}'),
        (Level.HIGH, '{"$enum":["HERE.Level","high"]}'),
        (Point(1, 2), '{"$type":["HERE.Point",{"x":1,"y":2}]}'),
        (FrozenPage(1), '{"$type":["frozen-page",{"number":1,"level":{"$enum":["HERE.Level","low"]}}]}'),
        (Path("a/b"), '{"$path":"a/b"}'),
        ({1: "a"}, '{"$dict":[[1,"a"]]}'),
        ({"$set": [1]}, '{"$dict":[["$set",[1]]]}'),
        ("$5", '"$5"'),
    ],
    ids=range(20),
)
def test_the_written_form(value: Any, text: str) -> None:
    assert bytes(encode(value)).decode() == text.replace("HERE", __name__)
    assert same(round_trip(value), value)


@pytest.mark.parametrize(
    "value", [timedelta.max, timedelta.min, 10**5000, -(2**63), 2**64 - 1, -0.0], ids=range(6)
)
def test_the_ends_of_the_range(value: Any) -> None:
    assert same(round_trip(value), value)


def test_the_hour_that_comes_twice_keeps_which_it_is() -> None:
    twice = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    assert round_trip(twice).utcoffset() == timedelta(hours=1)


def test_each_decoding_gives_a_new_value() -> None:
    raw = encode({"pages": [1]})
    assert decode(raw) is not decode(raw)


def test_long_lists_of_numbers() -> None:
    for value in (list(range(1000)), [0.5] * 1000, [*range(1000), 2**64], [0.5] * 1000 + [math.inf]):
        assert round_trip(value) == value


def test_equal_sets_are_equal_bytes() -> None:
    assert encode({"b", "a", "c"}) == encode({"c", "b", "a"})


class Stamp(datetime):
    pass


class Elsewhere(tzinfo):
    def utcoffset(self, moment: datetime | None, /) -> timedelta | None:
        return None if moment is None else timedelta(hours=1)

    def dst(self, _: datetime | None, /) -> timedelta | None:
        return None

    def tzname(self, _: datetime | None, /) -> str | None:
        return None


@dataclasses.dataclass
class Plain:
    number: int


class Scalar:
    """What numpy's scalars look like."""

    dtype = "float32"

    def tolist(self) -> float:
        return 0.5


Old = namedtuple("Old", "a")  # noqa: PYI024 - the untyped kind, too


@pytest.mark.parametrize(
    ("value", "kind", "fix"),
    [
        (Unregistered.ONE, "Unregistered", "register_type(Unregistered)"),
        (Plain(1), "Plain", "register_type(Plain)"),
        (Old(1), "Old", "register_type(Old)"),
        (defaultdict(list), "collections.defaultdict", "plain dict"),
        (OrderedDict(a=1), "collections.OrderedDict", "plain dict"),
        (Counter("a"), "collections.Counter", "plain dict"),
        (Stamp(2026, 1, 1), "Stamp", "plain datetime"),
        (bytearray(b"a"), "bytearray", "bytes(value)"),
        (Scalar(), "Scalar", "tolist"),
        (range(3), "range", "list(value)"),
        ((n for n in "a"), "generator", "list(value)"),
        (len, "builtin_function_or_method", "Runtime"),
        (object(), "object", "as a dict"),
        (1j, "complex", "as a dict"),
        (Raw(b"1"), "msgspec.Raw", "as a dict"),
    ],
    ids=range(15),
)
def test_what_cannot_be_stored_is_refused_with_a_way_out(value: Any, kind: str, fix: str) -> None:
    with pytest.raises(PayloadRejected) as caught:
        encode({"pages": [0, {"scale": value}]}, "state")
    assert str(caught.value).startswith("state.pages[1].scale is of type")
    assert kind in str(caught.value)
    assert fix in caught.value.fix
    assert caught.value.field == "state.pages[1].scale"


@pytest.mark.parametrize(
    ("value", "where", "place"),
    [
        ({"a": object()}, "", "a "),
        ([object()], "pages", "pages[0] "),
        (object(), "", "the value "),
        (object(), "node 'detect'", "node 'detect' "),
        ({"a b": (1, object())}, "", "['a b'][1] "),
        ({"a": [object()]}, "node 'detect'", "node 'detect': a[0] "),
        ({1: object()}, "x", "x{int} "),
        ({(1, object()): 1}, "x", "x{key 0}[1] "),
        (Page(1, marks=[object()]), "page", "page.marks[0] "),  # type: ignore[list-item]
        ({"s": {Unregistered.ONE}}, "", "s[0] "),
    ],
    ids=range(10),
)
def test_a_refusal_names_the_place(value: Any, where: str, place: str) -> None:
    with pytest.raises(PayloadRejected) as caught:
        encode(value, where)
    assert str(caught.value).startswith(place)


def test_a_map_names_the_key() -> None:
    with pytest.raises(PayloadRejected, match=r"^pages\[1\] is of type object"):
        encode_map({"a": 1, "pages": [0, object()]})
    with pytest.raises(PayloadRejected, match=r"^node 'a': pages is of type object") as caught:
        encode_map({"pages": object()}, "node 'a'")
    assert caught.value.field == "pages"
    with pytest.raises(PayloadRejected, match=r"^\{int\} is no text"):
        encode_map({1: 2})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", ["a\ud800", {"\ud800": 1}, Path("\udcff"), {"a": ["\ud800"]}], ids=ascii)
def test_lone_surrogates_are_refused(value: Any) -> None:
    with pytest.raises(PayloadRejected, match=r"^x\S* has .*lone surrogate \(U\+D"):
        encode(value, "x")


def test_a_zone_that_cannot_be_found_again_is_refused() -> None:
    with pytest.raises(PayloadRejected, match=r"time zone of type .*Elsewhere"):
        encode(datetime(2026, 1, 1, tzinfo=Elsewhere()))


def test_a_value_that_contains_itself_is_refused() -> None:
    pages: dict[str, Any] = {"children": [{}, {}]}
    pages["children"][1]["parent"] = pages
    with pytest.raises(
        PayloadRejected, match=r"^root\.children\[1\]\.parent leads back to root and has no end$"
    ):
        encode(pages, "root")
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(PayloadRejected, match="leads back"):
        encode(loop)
    page = Page(1)
    page.marks.append(page)  # type: ignore[arg-type]
    with pytest.raises(PayloadRejected, match=r"^the value\.?.*leads back|^marks\[0\] leads back"):
        encode(page)


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: (v,), lambda v: {1: v}], ids=range(4)
)
def test_depth_is_refused_before_python_gives_up(wrap: Any) -> None:
    value: Any = 0
    for _ in range(50):
        value = wrap(value)
    assert same(round_trip(value), value)
    for _ in range(5000):
        value = wrap(value)
    with pytest.raises(PayloadRejected, match="nested more than 200 levels"):
        encode(value)


def test_the_same_value_twice_is_no_loop() -> None:
    page = Page(1)
    assert round_trip([page, page, {"a": page}]) == [page, page, {"a": page}]


# Classes of the user


def test_a_class_of_the_main_module_is_named_as_others_import_it(tmp_path: Path) -> None:
    script = tmp_path / "orders.py"
    script.write_text(
        "from dataclasses import dataclass\n"
        "from holdfast.model.values import encode, register_type\n"
        "@register_type\n@dataclass\nclass Invoice:\n    cents: int\n"
        "print(bytes(encode(Invoice(1))).decode())\n"
    )
    for command in ([str(script)], ["-m", "orders"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == '{"$type":["orders.Invoice",{"cents":1}]}'


def test_names_are_unique() -> None:
    with pytest.raises(DefinitionError, match=r"taken by .*Page"):
        register_type(Plain, "frozen-page")


def test_a_renamed_class_reads_both_names_and_writes_the_last() -> None:
    @dataclasses.dataclass
    class Invoice:
        cents: int

    register_type(Invoice, "Bill")
    bill = encode(Invoice(1))
    register_type(Invoice, "Invoice of 2026")
    register_type(Invoice)  # known by now: changes nothing
    assert bytes(encode(Invoice(1))) == b'{"$type":["Invoice of 2026",{"cents":1}]}'
    assert decode(bill) == Invoice(1)


def test_a_class_that_is_loaded_again_takes_the_place_of_the_first() -> None:
    def load() -> Any:
        @register_type(name="loaded twice")
        @dataclasses.dataclass
        class Again:
            number: int

        return Again

    first, second = load(), load()
    assert type(round_trip(first(1))) is second


@pytest.mark.parametrize(
    "cls", [object, dict, int, type("Sub", (dict,), {}), ValueError], ids=lambda c: c.__name__
)
def test_other_classes_are_refused(cls: type) -> None:
    with pytest.raises(DefinitionError, match="cannot be registered"):
        register_type(cls, "other")


def test_a_class_with_work_after_init_keeps_what_was_stored() -> None:
    @register_type
    @dataclasses.dataclass(frozen=True)
    class Price:
        net: int
        gross: int = dataclasses.field(init=False)
        notes: dataclasses.InitVar[int] = 1

        def __post_init__(self, notes: int) -> None:
            object.__setattr__(self, "gross", self.net + notes)

    price = Price(10, notes=5)
    assert round_trip(price).gross == 15


def test_a_class_that_needs_what_is_not_stored_is_made_without_init() -> None:
    @register_type
    @dataclasses.dataclass
    class Opened:
        name: str = dataclasses.field(init=False)
        path: dataclasses.InitVar[str]

        def __post_init__(self, path: str) -> None:
            self.name = path.upper()

    assert round_trip(Opened("a")).name == "A"


def test_a_class_may_gain_a_field_with_a_default_and_lose_one() -> None:
    page = bytes(encode(Page(1)))
    assert decode(page.replace(b'"scale":1.0,"marks":[]', b'"gone":2')) == Page(1, 1.0, [])
    with pytest.raises(DefinitionError, match=r"a stored \$type .*Page cannot be read: .*number"):
        decode(page.replace(b'"number":1,', b""))
    with pytest.raises(DefinitionError, match=r"\$enum .*Level cannot be read"):
        decode(bytes(encode(Level.LOW)).replace(b"low", b"medium"))


def test_enums_come_back_as_their_members() -> None:
    assert round_trip([Level.HIGH, Rights.READ | Rights.WRITE]) == [Level.HIGH, Rights.READ | Rights.WRITE]
    assert round_trip(Level.HIGH) is Level.HIGH

    @register_type
    class Mixed(Enum):
        PAIR = (1, "a")

    assert round_trip(Mixed.PAIR) is Mixed.PAIR

    class Number(IntEnum):
        ONE = 1

    with pytest.raises(PayloadRejected, match="Number"):
        encode({"n": Number.ONE})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"$nothing":1}', r"the tag '\$nothing'"),
        (b'[{"a":{"$type":["os.system",{}]}}]', "'os.system', which is not registered"),
        (b'{"$datetime":"yesterday"}', r"\$datetime cannot be read"),
        (b'{"$datetime":["2026-01-01","Nowhere/Land",0]}', r"\$datetime cannot be read"),
    ],
    ids=["tag", "type", "datetime", "zone"],
)
def test_what_cannot_be_read_is_a_clear_error(raw: bytes, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        decode(raw)


def test_nothing_packed_is_nothing() -> None:
    assert unpack(b"null") == {}
    assert decode(pack({})) == {}


def test_pydantic_models() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Animal(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        name: str

    class Dog(Animal):
        tricks: frozenset[str] = frozenset()

    class Owner(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        model_config = pydantic.ConfigDict(extra="allow")
        pet: Animal
        since: datetime = pydantic.Field(alias="from")

        @pydantic.computed_field  # type: ignore[prop-decorator, untyped-decorator]
        @property
        def years(self) -> int:
            return 1

    class Names(pydantic.RootModel[list[str]]):  # type: ignore[misc, name-defined]
        pass

    for cls in (Animal, Dog, Owner, Names):
        register_type(cls)
    owner = Owner.model_validate(
        {"pet": Dog(name="Rex", tricks=frozenset({"sit"})), "from": "2026-01-01T00:00:00Z", "x": (1,)}
    )
    again = round_trip(owner)
    assert again == owner
    assert type(again.pet) is Dog
    assert again.x == (1,)
    assert round_trip(Names(["a"])) == Names(["a"])

    owner.since = "never"
    with pytest.raises(PayloadRejected, match="would not pass its own validation again") as caught:
        encode(owner, "owner")
    assert "never" not in str(caught.value)


def test_a_class_that_only_looks_like_a_pydantic_model() -> None:
    @register_type
    class Duck:
        def __init__(self, name: str) -> None:
            self.name = name

        def model_dump(self) -> dict[str, Any]:
            return {"name": self.name}

        @classmethod
        def model_validate(cls, fields: dict[str, Any]) -> Duck:
            return cls(**fields)

    assert round_trip(Duck("Donald")).name == "Donald"
