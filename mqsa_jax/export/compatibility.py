"""Until when a lowered program can be loaded: the guarantee of `jax.export`, with its dates.

jax loads what releases up to 6 months older have exported, and releases up to 3 weeks newer; what
counts is when they were released, not when a program was exported or is run. See "Compatibility
guarantees" on https://docs.jax.dev/en/latest/export/export.html.
"""

import datetime
from typing import Any

import jax

from mqsa_jax.export.program import PLATFORMS

RELEASED = {
    "0.10.2": datetime.date(2026, 6, 17),
    "0.11.0": datetime.date(2026, 7, 16),
    "0.11.1": datetime.date(2026, 8, 17),
    "0.11.2": datetime.date(2026, 9, 17),
}
"""When the releases of jax that this package supports were built."""
BACKWARD_MONTHS, FORWARD_WEEKS = 6, 3
GUARANTEE = (
    f"jax releases from {FORWARD_WEEKS} weeks before to {BACKWARD_MONTHS} months after the one "
    "that exported"
)


def guarantee(version: str = jax.__version__) -> dict[str, Any]:
    """The jax that exported, and of what dates the releases are that load it.

    The dates are None for a release that is not in `RELEASED`; the rule stands all the same.

    Example:
      >>> guarantee("0.10.2")["loads_in_jax_released_until"]
      '2026-12-17'
    """
    released = RELEASED.get(version)
    first = released and released - datetime.timedelta(weeks=FORWARD_WEEKS)
    last = released and _months_later(released, BACKWARD_MONTHS)
    return {
        "platforms": list(PLATFORMS),
        "jax": version,
        "jax_released": _text(released),
        "guarantee": GUARANTEE,
        "loads_in_jax_released_from": _text(first),
        "loads_in_jax_released_until": _text(last),
    }


def _months_later(date: datetime.date, months: int) -> datetime.date:
    """The same day of a later month, or its 28th at the latest."""
    years, month = divmod(date.month - 1 + months, 12)
    return datetime.date(date.year + years, month + 1, min(date.day, 28))


def _text(date: datetime.date | None) -> str | None:
    return date and date.isoformat()
