"""What is kept of the coded events, and how it is split: leave-one-out, or by time."""

import math
from typing import Any

import ibis.expr.types as ir

from mqsa_jax.errors import SettingError
from mqsa_jax.prepare.options import cut_of, shown_time
from mqsa_jax.prepare.steps import Coded, Held, Steps


def split(steps: Steps, coded: Coded) -> tuple[Held, dict[str, Any]]:
    """The events that are kept, and what the manifest says of the split."""
    told: dict[str, Any] = {"kind": steps.options.split}
    if steps.options.split == "time":
        held, counts = _split_by_time(steps, coded)
        return held, told | counts
    core = steps.core(coded.events)
    return Held(core, steps.codes(core, "user")[0], steps.codes(core, "item")[0], []), told


def _split_by_time(steps: Steps, coded: Coded) -> tuple[Held, dict[str, Any]]:
    """The core of what is before the validation cut, and its users' and items' later events."""
    cuts = _cuts(steps, coded.events)
    table = coded.events
    early, late = (table.filter(side) for side in (table.time < cuts[0], table.time >= cuts[0]))
    num_early = steps.engine.row(early, n=early.count())["n"]
    if not num_early:
        raise SettingError(f"no event is before {{valid_from}} {shown_time(cuts[0])}")
    steps.tell("before the validation", events=num_early)
    core = steps.core(early)
    warm = late.semi_join(core.select("user").distinct(), "user")
    kept = warm.semi_join(core.select("item").distinct(), "item")
    after, known, left = (
        steps.engine.row(part, events=part.count(), users=part.user.nunique())
        for part in (late, warm, kept)
    )
    steps.tell("after it", **after)
    left_out = {
        "cold_users": after["users"] - known["users"],
        "unknown_item_events": known["events"] - left["events"],
    }
    steps.tell("left out after it", **left_out)
    users, items = (steps.codes(core, role)[0] for role in ("user", "item"))
    held = Held(steps.engine.keep("held", core.union(kept)), users, items, cuts)
    shown = dict(zip(("valid_from", "test_from"), map(shown_time, cuts), strict=True))
    return held, shown | left_out


def _cuts(steps: Steps, table: ir.Table) -> list[int]:
    """Microseconds of the validation and of the test cut."""
    names = ("valid_from", "test_from")
    cuts = [_cut(steps, table, name, getattr(steps.options, name)) for name in names]
    if cuts[0] >= cuts[1]:
        raise SettingError(
            f"{{valid_from}} {shown_time(cuts[0])} is not before {{test_from}} "
            f"{shown_time(cuts[1])}"
        )
    return cuts


def _cut(steps: Steps, table: ir.Table, name: str, text: str) -> int:
    """A cut in microseconds; of a quantile, the time of an event."""
    cut = cut_of(name, text)
    if isinstance(cut, int):
        return cut
    quantile = steps.engine.row(table, q=table.time.quantile(cut))["q"]
    late = table.filter(table.time >= math.floor(quantile))
    return steps.engine.row(late, first=late.time.min())["first"]
