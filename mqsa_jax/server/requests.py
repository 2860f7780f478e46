"""What a request may hold, and what is wrong with it otherwise.

These checks do not depend on the model; `queries.py` has those that do.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

SHOWN = 60
"""Characters of a bad value that a reason repeats."""
_ID = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}]}
_TIMED = {
    "type": "object",
    "properties": {"item": _ID, "time": {"type": "number"}},
    "required": ["item", "time"],
    "additionalProperties": False,
}


class RefusedError(Exception):
    """A request that cannot be answered, with the status code of HTTP and a reason in one line."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


def shown(value: Any) -> str:
    """A value in a message: plain ASCII in one line, and not long."""
    text = ascii(value) if isinstance(value, str | int | float | bool) else type(value).__name__
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def is_id(value: Any) -> bool:
    """Whether a value of JSON may be an id: an integer or a string, and not true or false."""
    return type(value) in (int, str)


def _refuse(reason: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{reason}", {"reason": reason})


def _ids(values: list[Any]) -> list[Any]:
    for index, value in enumerate(values):
        if not is_id(value):
            raise _refuse(f"entry {index} is {shown(value)}, no id: ids are integers or strings")
    return values


def _id(value: Any) -> Any:
    if not is_id(value):
        raise _refuse(f"{shown(value)} is no id: ids are integers or strings")
    return value


def _oldest_first(values: list[Any]) -> list[Any]:
    """The ids of a history: as they come, or in the order of their times."""
    if not values or not isinstance(values[0], dict):
        return _ids(values)
    for index, value in enumerate(values):
        if not isinstance(value, dict) or value.keys() != {"item", "time"}:
            raise _refuse(
                f'entry {index} is not like {{"item": 17, "time": 1393545600}}; give a time to '
                "each item, or to none"
            )
        _id(value["item"])
        if type(value["time"]) not in (int, float) or value["time"] - value["time"] != 0:
            raise _refuse(f"time of entry {index} is {shown(value['time'])}, no number")
    # Sorting keeps the order of equal times.
    return [value["item"] for value in sorted(values, key=lambda value: value["time"])]


ItemId = Annotated[Any, AfterValidator(_id), WithJsonSchema(_ID)]
Ids = Annotated[list[Any], AfterValidator(_ids), WithJsonSchema({"type": "array", "items": _ID})]
History = Annotated[
    list[Any],
    AfterValidator(_oldest_first),
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": _ID}, {"type": "array", "items": _TIMED}],
            "description": "Item ids as in the data, oldest first; or in any order, each with a "
            "time. Equal times keep their order.",
        }
    ),
]
K = Annotated[int, Field(strict=True, ge=1, description="Items of the list, at most.")]
Allow = Annotated[Ids | None, Field(description="Only these items are listed.")]
Deny = Annotated[Ids | None, Field(description="None of these items is listed.")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RecommendRequest(_Request):
    """Asks for the items that a user is likely to consume next."""

    history: History
    k: K = 10
    allow: Allow = None
    deny: Deny = None
    exclude_seen: Annotated[
        Literal["history", "window", "none"] | None,
        Field(
            description="Left out of the list: all items of the history, those that the model "
            "reads, or none; by default as in training."
        ),
    ] = None
    explain: Annotated[StrictBool, Field(description="Adds why each item is listed.")] = False

    @classmethod
    def examples(cls, ids: list[Any]) -> dict[str, dict[str, Any]]:
        """Requests about three items, by name."""
        timed = [{"item": id_, "time": 1393545600 - back * 86400} for back, id_ in enumerate(ids)]
        plain = {"history": ids, "k": 3}
        return {
            "a history": plain,
            "with times": {"history": timed, "k": 3},
            "with reasons": plain | {"explain": True},
            "without an item": plain | {"deny": ids[:1], "exclude_seen": "none"},
        }


class ScoreRequest(_Request):
    """Asks for the scores of some items as the next one."""

    history: History
    items: Annotated[Ids, Field(min_length=1, description="The items to score.")]

    @classmethod
    def examples(cls, ids: list[Any]) -> dict[str, dict[str, Any]]:
        """Requests about three items, by name."""
        return {"some items": {"history": ids[:1], "items": ids}}


class SimilarRequest(_Request):
    """Asks for the items whose vectors are nearest to an item's by cosine."""

    item: ItemId
    k: K = 10
    allow: Allow = None
    deny: Deny = None

    @classmethod
    def examples(cls, ids: list[Any]) -> dict[str, dict[str, Any]]:
        """Requests about three items, by name."""
        return {
            "an item": {"item": ids[0], "k": 3},
            "without another": {"item": ids[0], "deny": ids[1:2]},
        }


Request = RecommendRequest | ScoreRequest | SimilarRequest


class Limits(BaseModel):
    """What a request may hold at most."""

    max_history: int
    """Entries of a history."""
    max_k: int
    """Items of a list."""
    max_body: int
    """Bytes of a body."""

    def check(self, request: Request) -> None:
        """Raises RefusedError if a request holds more."""
        length, k = len(getattr(request, "history", ())), getattr(request, "k", 1)
        if length > self.max_history:
            raise RefusedError(
                422, f"history: {length} entries, and the limit is {self.max_history}"
            )
        if k > self.max_k:
            raise RefusedError(422, f"k: {shown(k)}, and the limit is {self.max_k}")
