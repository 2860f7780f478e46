"""What an independent script in pandas counts in a RecBole log, beside a folder's manifest.

    python -m tests.prepare.count_by_pandas LOG.inter FOLDER

Not a test, as the log is not part of the project: run once, the figures stand in docs/prepare.md.
"""

import json
import sys
from pathlib import Path

import pandas as pd


def counted(log: str, min_user: int, min_item: int) -> dict[str, int]:
    """Users, items, interactions and ties of a log after its core."""
    frame = pd.read_csv(log, sep="\t")
    frame.columns = [name.partition(":")[0] for name in frame.columns]
    frame = frame.drop_duplicates(["user_id", "item_id", "timestamp"])
    while True:
        users = frame.groupby("user_id").item_id.transform("size")
        items = frame.groupby("item_id").user_id.transform("size")
        kept = frame[(users >= min_user) & (items >= min_item)]
        if len(kept) == len(frame):
            break
        frame = kept
    return {
        "users": frame.user_id.nunique(),
        "items": frame.item_id.nunique(),
        "interactions": len(frame),
        "ties": int(frame.duplicated(["user_id", "timestamp"], keep=False).sum()),
    }


def main() -> None:
    """Prints both, and fails if they differ."""
    log, folder = sys.argv[1:]
    manifest = json.loads((Path(folder) / "manifest.json").read_text())
    least = (manifest["options"][name] for name in ("min_user", "min_item"))
    expected = counted(log, *least)
    actual = {name: manifest[name] for name in expected}
    print(json.dumps({"pandas": expected, "manifest": actual}))
    sys.exit(expected != actual)


if __name__ == "__main__":
    main()
