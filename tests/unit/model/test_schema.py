"""A schema types the keys of a state and the parameters of a workflow."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NotRequired, Required, TypedDict, TypeVar

import msgspec
import pytest

from holdfast.errors import DefinitionError, PayloadRejected
from holdfast.model.schema import read_params, read_schema
from holdfast.model.values import decode, encode

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

T = TypeVar("T")


class Level(StrEnum):
    LOW = "low"
    HIGH = "high"


class Rank(IntEnum):
    FIRST = 1


@dataclasses.dataclass
class Mark:
    text: str


@dataclasses.dataclass
class SchemaPage:
    number: int
    marks: list[Mark] = dataclasses.field(default_factory=list)


class SchemaPoint(msgspec.Struct):
    x: int


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


def longest(left: str, right: str) -> str:
    return max(left, right, key=len)


class Review(TypedDict, total=False):
    document: Required[str]
    findings: Annotated[list[str], operator.add]
    title: Annotated[str, "a comment", longest]
    level: Level
    rank: Rank
    pages: list[SchemaPage]
    score: float
    point: SchemaPoint | None
    at: datetime
    either: SchemaPoint | SchemaPage
    box: Box[int]
    kind: Literal["a", "b"]
    limit: Annotated[int, msgspec.Meta(gt=0)]
    anything: Any
    path: Path
    levels: list[Level]


class Total(TypedDict):
    a: int
    b: NotRequired[Annotated[int, operator.add]]


@dataclasses.dataclass
class AsDataclass:
    a: int
    b: Annotated[list[int], operator.add] = dataclasses.field(default_factory=list)


class AsStruct(msgspec.Struct):
    a: int
    b: Annotated[list[int], operator.add] = []


# Schemas of a state


def test_a_typed_dict_is_read_with_postponed_annotations() -> None:
    schema = read_schema(Review)
    assert schema.name == "Review"
    assert list(schema.fields)[:3] == ["document", "findings", "title"]
    assert schema.fields["document"] is str
    assert schema.reducers == {"findings": operator.add, "title": longest}
    assert schema.required == {"document"}
    assert read_schema(Total).required == {"a"}
    assert read_schema(Total).reducers == {"b": operator.add}


@pytest.mark.parametrize("schema", [AsDataclass, AsStruct], ids=["dataclass", "Struct"])
def test_classes_are_schemas(schema: type) -> None:
    read = read_schema(schema)
    assert list(read.fields) == ["a", "b"]
    assert read.required == {"a"}
    assert read.reducers == {"b": operator.add}
    read.check({"b": [1]})
    with pytest.raises(PayloadRejected, match=r"b\[0\]: expected int, got str"):
        read.check({"b": ["x"]})


def test_the_classes_it_names_can_be_stored() -> None:
    read_schema(Review)
    for value in (SchemaPage(1, [Mark("x")]), SchemaPoint(1), Level.LOW, Rank.FIRST, Box(1)):
        assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"document": "memo.pdf", "findings": ["x"], "title": "x"},
        {"level": Level.LOW, "rank": Rank.FIRST, "levels": [Level.LOW]},
        {"pages": [SchemaPage(1, [Mark("x")])], "score": 1, "point": None, "at": datetime.now(UTC)},
        {"point": SchemaPoint(1), "either": SchemaPage(1), "box": Box(1), "kind": "a", "limit": 1},
        {"anything": {1: 2}, "path": Path("a")},
        {"score": float("nan")},
        {"title": 5},
    ],
    ids=range(8),
)
def test_values_of_their_types_pass(values: dict[str, Any]) -> None:
    read_schema(Review).check(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"document": 1}, "document: expected str, got int"),
        ({"findings": "x"}, "findings: expected list[str], got str"),
        ({"findings": ["a", 1]}, "findings[1]: expected str, got int"),
        ({"findings": ("a",)}, "findings: expected list[str], got tuple"),
        ({"level": "low"}, "level: expected Level, got str"),
        ({"levels": ["low"]}, "levels: expected list[test_schema.Level], got list"),
        ({"rank": 1}, "rank: expected Rank, got int"),
        ({"pages": [{"number": 1}]}, "pages: expected list[test_schema.SchemaPage], got list"),
        ({"score": "1"}, "score: expected float, got str"),
        ({"score": True}, "score: expected float, got bool"),
        ({"point": 1}, "point: expected test_schema.SchemaPoint | None, got int"),
        ({"at": "2026-11-21T09:00:00Z"}, "at: expected datetime, got str"),
        ({"either": 1}, "either: expected test_schema.SchemaPoint | test_schema.SchemaPage, got int"),
        ({"kind": "c"}, "kind: Invalid enum value 'c'"),
        ({"limit": 0}, "limit: expected int >= 1"),
        ({"path": "a"}, "path: expected Path, got str"),
    ],
    ids=range(16),
)
def test_others_are_refused_naming_key_and_types(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PayloadRejected) as caught:
        read_schema(Review).check(values)
    assert str(caught.value).replace(f"{__name__}.", "test_schema.") == message
    assert caught.value.field == message.partition(":")[0]


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        PayloadRejected, match="the schema Review has no key 'documents'; Did you mean 'document'"
    ) as caught:
        read_schema(Review).check({"documents": "x"})
    assert caught.value.field == "documents"
    with pytest.raises(PayloadRejected, match="There are: a, b"):
        read_schema(Total).check({"xyz": 1})


def test_what_is_no_schema_is_refused() -> None:
    for wrong in (dict, int, "Review", {"a": int}, None):
        with pytest.raises(DefinitionError, match="is no schema"):
            read_schema(wrong)


def test_a_name_that_cannot_be_found_is_named() -> None:
    class Lost(TypedDict):
        a: Unknown

    with pytest.raises(DefinitionError, match="Lost name 'Unknown'"):
        read_schema(Lost)


def test_a_reducer_takes_two() -> None:
    class One(TypedDict):
        a: Annotated[int, abs]

    class Two(TypedDict):
        a: Annotated[int, operator.add, operator.mul]

    with pytest.raises(DefinitionError, match="cannot be a reducer"):
        read_schema(One)
    with pytest.raises(DefinitionError, match=r"Two\.a has 2 reducers"):
        read_schema(Two)


def test_a_pydantic_schema() -> None:
    pydantic = pytest.importorskip("pydantic")
    inner = pydantic.create_model("PydanticInner", n=(int, ...))
    outer = pydantic.create_model(
        "PydanticOuter",
        document=(str, ...),
        score=(Annotated[float, pydantic.Field(ge=0)], 0.0),
        inner=(inner, ...),
        found=(Annotated[list[str], operator.add], pydantic.Field(default_factory=list, alias="fnd")),
    )
    schema = read_schema(outer)
    assert list(schema.fields) == ["document", "score", "inner", "found"]
    assert schema.required == {"document", "inner"}
    assert schema.reducers == {"found": operator.add}
    schema.check({"score": 1.0})
    schema.check({"inner": inner(n=1), "found": ["x"]})
    assert decode(encode(inner(n=1))) == inner(n=1)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"score": -1.0}, r"^score: .*greater than or equal to 0, got float"),
        ({"score": "1"}, r"^score: .*valid number, got str"),
        ({"found": [1]}, r"^(found|fnd)\[0\]: .*valid string, got int"),
        ({"scor": 1.0}, "Did you mean 'score'"),
    ]
    for values, message in wrong:
        with pytest.raises(PayloadRejected, match=message):
            schema.check(values)
    opened = pydantic.create_model("Opened", __config__=pydantic.ConfigDict(extra="allow"), a=(int, 1))
    read_schema(opened).check({"b": 1})


# Parameters


def order(order_id: str, cents: int = 5, at: datetime | None = None, page: SchemaPage | None = None) -> Mark:
    return Mark(f"{order_id}{cents}{at}{page}")


@dataclasses.dataclass
class OrderParams:
    order_id: str
    cents: int = 5
    tags: list[str] = dataclasses.field(default_factory=list)
    level: Level = Level.LOW
    page: SchemaPage | None = None


class OrderStruct(msgspec.Struct):
    order_id: str
    cents: Annotated[int, msgspec.Meta(ge=0)] = 5


class OrderDict(TypedDict):
    order_id: str
    cents: NotRequired[int]


def test_the_parameters_of_a_function() -> None:
    params = read_params(order)
    assert params.required == {"order_id"}
    assert list(params.fields) == ["order_id", "cents", "at", "page"]
    assert params.bind({"order_id": "7"}) == {"order_id": "7"}
    assert params.bind({"order_id": "7", "at": "2026-11-21T09:00:00Z", "page": {"number": 1}}) == {
        "order_id": "7",
        "at": datetime(2026, 11, 21, 9, tzinfo=UTC),
        "page": SchemaPage(1),
    }
    assert decode(encode(Mark("the return type is known, too"))) == Mark("the return type is known, too")


@pytest.mark.parametrize("source", [order, OrderParams, OrderStruct, OrderDict], ids=lambda s: s.__name__)
@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({}, "order_id", "the parameter 'order_id' is missing"),
        ({"order_id": 7}, "order_id", "order_id: expected str, got int"),
        ({"order_id": "7", "cents": "5"}, "cents", "cents: expected int, got str"),
        ({"order_id": "7", "cent": 5}, "cent", "has no parameter 'cent'; Did you mean 'cents'?"),
    ],
    ids=["missing", "type", "type of an optional one", "unknown"],
)
def test_wrong_params_are_refused_naming_the_field(
    source: Any, given: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(PayloadRejected) as caught:
        read_params(source).bind(given)
    assert message in str(caught.value)
    assert caught.value.field == field


def test_a_type_fills_its_defaults_in() -> None:
    params = read_params(OrderParams)
    bound = params.bind({"order_id": "7", "level": "high", "page": {"number": 1, "marks": [{"text": "x"}]}})
    page = SchemaPage(1, [Mark("x")])
    assert bound == {"order_id": "7", "cents": 5, "tags": [], "level": Level.HIGH, "page": page}
    assert params.instance(bound) == OrderParams("7", level=Level.HIGH, page=page)
    assert params.bind(bound) == bound
    assert read_params(OrderDict).instance({"order_id": "7"}) == {"order_id": "7"}
    assert read_params(OrderStruct).bind({"order_id": "7"}) == {"order_id": "7", "cents": 5}


def test_types_that_msgspec_does_not_know_are_judged_by_their_class() -> None:
    class Hard(TypedDict, total=False):
        either: SchemaPoint | SchemaPage | None
        marked: Annotated[SchemaPoint | SchemaPage, "x"]
        dicts: Total | OrderDict
        lists: list[SchemaPoint | SchemaPage]
        decimal: Decimal
        nested: dict[str, list[float]]

    schema = read_schema(Hard)
    for values in (
        {"either": None, "marked": SchemaPage(1), "dicts": {"a": 1}, "lists": [SchemaPoint(1)]},
        {"nested": {"a": [1, 2.5]}, "decimal": Decimal(1)},
    ):
        schema.check(values)
    refused: dict[str, Any] = {"either": 1, "marked": None, "dicts": [], "lists": (), "decimal": 1}
    for name, wrong in refused.items():
        with pytest.raises(PayloadRejected, match=f"^{name}: expected"):
            schema.check({name: wrong})
    with pytest.raises(PayloadRejected, match=r"nested\[\.\.\.\]\[0\]: expected float, got str"):
        schema.check({"nested": {"a": ["x"]}})


def test_a_type_that_refuses_its_params_says_why() -> None:
    @dataclasses.dataclass
    class Positive:
        n: int

        def __post_init__(self) -> None:
            if self.n < 0:
                raise ValueError("n is negative")

    with pytest.raises(PayloadRejected, match="Positive refuses the params: n is negative"):
        read_params(Positive).bind({"n": -1})


def test_params_are_a_mapping() -> None:
    with pytest.raises(PayloadRejected, match="the params are of type list"):
        read_params(order).bind([1])  # type: ignore[arg-type]


def test_functions_of_all_kinds() -> None:
    def everything(a: int, /, b: Unknown, *rest: int, c: list[int], **more: int) -> None: ...

    params = read_params(everything)
    assert params.fields == {"a": int, "b": Any, "c": list[int]}
    assert params.bind({"a": 1, "b": object, "c": [1], "d": 4}) == {"a": 1, "b": object, "c": [1], "d": 4}
    with pytest.raises(PayloadRejected, match=r"c\[0\]: expected int"):
        params.bind({"a": 1, "b": 2, "c": ["x"]})

    class Called:
        def __call__(self, n: int) -> None: ...

    assert read_params(Called()).required == {"n"}
    assert read_params(lambda x, y=1: (x, y)).required == {"x"}
    assert read_params(order, leave_out=("order_id", "page")).bind({"cents": 1}) == {"cents": 1}


def test_pydantic_params() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model(
        "PydanticParams",
        order_id=(str, ...),
        at=(datetime, datetime(2026, 1, 1, tzinfo=UTC)),
        n=(int, pydantic.Field(1, alias="en")),
    )
    params = read_params(model)
    bound = params.bind({"order_id": "7", "n": "5"})
    assert bound == {"order_id": "7", "at": datetime(2026, 1, 1, tzinfo=UTC), "n": 5}
    assert params.instance(bound).n == 5
    with pytest.raises(PayloadRejected, match="'order_id' is missing"):
        params.bind({})
    with pytest.raises(PayloadRejected, match=r"^e?n: .*valid integer"):
        params.bind({"order_id": "7", "n": "x"})
    nested = dataclasses.make_dataclass("Nested", [("model", model)])
    assert read_params(nested).bind({"model": {"order_id": "7"}})["model"] == model(order_id="7")
    with pytest.raises(PayloadRejected, match=r"^model: at: .*valid datetime"):
        read_params(nested).bind({"model": {"order_id": "7", "at": "never"}})
    assert read_params(nested).json_schema()["properties"]["model"]["type"] == "object"
    assert params.json_schema()["properties"]["order_id"]["type"] == "string"


def test_the_json_schema() -> None:
    def full(
        a: str, b: int = 5, c: SchemaPage | None = None, d: Callable[..., Any] = len, *, e: Path, f: Decimal
    ) -> None: ...

    schema = read_params(full).json_schema()
    assert schema["title"] == "full"
    assert schema["type"] == "object"
    assert schema["required"] == ["a", "e", "f"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["a"] == {"type": "string"}
    assert {"$ref": "#/$defs/SchemaPage"} in schema["properties"]["c"]["anyOf"]
    assert schema["properties"]["e"] == {"type": "string", "format": "path"}
    assert set(schema["$defs"]) == {"SchemaPage", "Mark"}
    msgspec.json.encode(schema)

    def odd(x: SchemaPoint | SchemaPage, y: complex = 1j, *, z: Any = None) -> None: ...

    assert read_params(odd).json_schema()["properties"] == {"x": {}, "y": {}, "z": {}}

    typed = read_params(OrderParams).json_schema()
    assert typed["properties"]["cents"] == {"type": "integer", "default": 5}
    assert typed["properties"]["tags"]["default"] == []
    assert read_params(OrderStruct).json_schema()["properties"]["cents"] == {
        "type": "integer",
        "minimum": 0,
        "default": 5,
    }


def test_durations_and_the_like_come_as_text() -> None:
    def wait(age: timedelta, level: Level) -> None: ...

    def locate(path: Path) -> None: ...

    assert read_params(locate).bind({"path": "a/b"}) == {"path": Path("a/b")}
    assert read_params(wait).bind({"age": "PT60S", "level": "low"}) == {
        "age": timedelta(minutes=1),
        "level": Level.LOW,
    }
