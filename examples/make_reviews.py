"""Writes generated purchases as a file of Amazon's reviews: JSON lines, packed, in no order.

python examples/make_reviews.py reviews.json.gz
"""

import dataclasses
import gzip
import json
import sys

import numpy as np

from mqsa_jax.data.synthetic import Recipe, synthetic_histories

FIRST_TIME = 1_600_000_000
"""Seconds since 1970."""
DAY = 86_400


def reviews(users: int) -> list[dict[str, str | int | float]]:
    """A review for each item that each of the generated users buys."""
    rng = np.random.default_rng(0)
    histories = synthetic_histories(recipe=dataclasses.replace(Recipe(), num_users=users))
    rows = []
    for user in range(histories.num_users):
        time = FIRST_TIME + int(rng.integers(100 * DAY))
        for item in histories.items[histories.offsets[user] : histories.offsets[user + 1]]:
            time += int(rng.integers(1, 10 * DAY))
            row = {"reviewerID": f"A{user:05}", "asin": f"B{item:09}", "overall": 5.0}
            rows.append(row | {"reviewText": 'Good, "as ever".', "unixReviewTime": time})
    return [rows[place] for place in rng.permutation(len(rows))]


def main() -> None:
    """Writes the file."""
    path, *users = sys.argv[1:]
    rows = reviews(int(users[0]) if users else Recipe().num_users)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    print(f"{path}: {len(rows)} reviews")


if __name__ == "__main__":
    main()
