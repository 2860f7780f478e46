"""Fields of settings: types with a range, and trees of dataclasses that have such fields."""

import dataclasses
import math
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from mqsa_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Range:
    """What a value must be, in words and as a test."""

    wording: str
    accepts: Callable[[float], bool]


Count = Annotated[int, Range("at least 1", lambda v: v >= 1)]
Fraction = Annotated[float, Range("between 0 and 1", lambda v: 0 <= v <= 1)]
BelowOne = Annotated[float, Range("at least 0 and below 1", lambda v: 0 <= v < 1)]
Factor = Annotated[float, Range("above 0 and at most 1", lambda v: 0 < v <= 1)]
NotNegative = Annotated[float, Range("a finite number, 0 or above", lambda v: 0 <= v < math.inf)]
Positive = Annotated[float, Range("a finite number above 0", lambda v: 0 < v < math.inf)]
Whole = Annotated[int, Range("0 or above", lambda v: v >= 0)]


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from a file is of a field's type."""
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    kinds = alternatives(hint)
    return any(type(value) is kind or (kind is float and type(value) is int) for kind in kinds)


def range_of(hint: Any) -> Range | None:
    """The range of `Annotated[kind, Range(...)]`, which may be optional."""
    if typing.get_origin(hint) is Annotated:
        return hint.__metadata__[0]
    return next(filter(None, map(range_of, typing.get_args(hint))), None)


def alternatives(hint: Any) -> list[Any]:
    """The types of an optional or annotated type."""
    if typing.get_origin(hint) is Annotated:
        return [hint.__origin__]
    return [kind for part in typing.get_args(hint) for kind in alternatives(part)] or [hint]


def leaves(node: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and value of every field that is not a section itself."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value)
        else:
            yield field.name, field.type, value


def build(cls: type, values: dict[str, Any]) -> Any:
    """A tree of such dataclasses from values by name; UserError naming one of a wrong type."""
    arguments = {}
    for field in dataclasses.fields(cls):
        name = field.name
        if dataclasses.is_dataclass(field.type):
            arguments[name] = build(field.type, values)
        elif fits(value := values[name], field.type):
            arguments[name] = value
        else:
            raise UserError(f"configuration key {name}: {value!r} is of a wrong type; restore it")
    return cls(**arguments)
