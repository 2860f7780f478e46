"""Published figures on the four benchmark sets: full ranking, leave-one-out, history excluded."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """What a source reports on a data set."""

    dataset: str
    """A built-in name."""
    model: str
    source: str
    figures: dict[str, float]
    """By metric; those that the source gives."""


UNVERIFIED = "unverified"
"""Source of figures that others quote and that no log or paper was found for."""
_MQSA_TED = "[paper](https://arxiv.org/abs/2311.01056)"
_WEAREC = "AAAI 2026, [the authors' log](https://github.com/xhy963319431/WEARec)"
_ALL = ("HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "NDCG@20")


def _figures(*values: float) -> dict[str, float]:
    return dict(zip(_ALL, values, strict=False))


PUBLISHED = (
    Published("beauty", "MQSA-TED", _MQSA_TED, {"HR@5": 0.0752, "NDCG@5": 0.0534}),
    Published(
        "beauty", "WEARec", _WEAREC, _figures(0.0738, 0.0516, 0.1041, 0.0614, 0.1391, 0.0703)
    ),
    Published(
        "beauty",
        "SASRec with cross-entropy",
        "published mean of 5 runs",
        _figures(0.0713, 0.0509, 0.0986, 0.0597),
    ),
    Published("sports", "MQSA-TED", _MQSA_TED, {"NDCG@5": 0.0320}),
    Published(
        "sports", "WEARec", _WEAREC, _figures(0.0433, 0.0302, 0.0631, 0.0367, 0.0895, 0.0433)
    ),
    Published(
        "toys",
        "ICSRec",
        "[the authors' README](https://github.com/QinHsiu/ICSRec)",
        _figures(0.0788, 0.0571, 0.1055, 0.0657, 0.1368, 0.0736),
    ),
    Published(
        "toys", "BSARec", UNVERIFIED, _figures(0.0805, 0.0589, 0.1081, 0.0679, 0.1435, 0.0768)
    ),
    Published("yelp", "MQSA-TED, history excluded", _MQSA_TED, {"NDCG@5": 0.0205}),
    Published(
        "yelp",
        "BSARec, history excluded",
        "a user's rerun",
        _figures(0.0261, 0.0168, 0.0442, 0.0226, 0.0731, 0.0298),
    ),
)


def published_on(dataset: str, exclude_seen: str) -> list[Published]:
    """The rows of a data set; none for the user's own files and for other protocols."""
    return [row for row in PUBLISHED if row.dataset == dataset and exclude_seen == "history"]


def best_published(dataset: str, metric: str = "NDCG@20") -> Published | None:
    """The row with the highest value of a metric, if a source reports it."""
    rows = [row for row in PUBLISHED if row.dataset == dataset and metric in row.figures]
    return max(rows, key=lambda row: row.figures[metric], default=None)
