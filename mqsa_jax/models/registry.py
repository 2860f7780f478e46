"""The table of models: what `--model` selects, what each one fixes, and its source.

Imports no JAX, so that `--help` and argument errors come at once.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from mqsa_jax.config import Config
from mqsa_jax.errors import SettingError

Backbone = Literal["attention", "gru", "fmlp"]
"""What turns item vectors into user vectors."""
Graph = Literal["unused", "smoothed", "regularised", "graphsage", "gat"]
"""How the graph of item transitions enters the item vectors."""
Flags = Mapping[str, float | int]
"""Values by flag name, underscores for hyphens."""

PLUS = "mqsa-ted-plus"
"""The project's own recipe; `configs/NAME.py` adds flags of a data set to it."""
_NO_KD: Flags = {"lambda_kd": 0.0}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A row of the table."""

    title: str
    """Name in tables and figures."""
    summary: str
    """What it is, and its source."""
    fixed: Flags = dataclasses.field(default_factory=dict)
    """Flags that the model fixes; others are free."""
    defaults: Flags = dataclasses.field(default_factory=dict)
    """Flags whose default differs from the data set's."""
    backbone: Backbone = "attention"
    graph: Graph = "unused"
    counted: bool = False
    """Whether it is counted (`models/counted.py`) instead of trained."""


MODELS: Mapping[str, ModelSpec] = {
    # The paper's model and its ablations: Zhu et al., WSDM 2024, arXiv 2311.01056.
    "mqsa-ted": ModelSpec("MQSA-TED", "both branches, with distillation (Zhu et al., WSDM 2024)"),
    "mqsa": ModelSpec("MQSA", "both branches, without distillation", fixed=_NO_KD),
    "l-query": ModelSpec(
        "L-query", "the long branch alone", fixed={"alpha": 0.0, "lambda_kd": 0.0}
    ),
    # SASRec is the short branch alone (Kang and McAuley, ICDM 2018, arXiv 1808.09781), trained with
    # cross-entropy as in Klenitskiy and Vasilev, RecSys 2023.
    "sasrec": ModelSpec(
        "SASRec",
        "self-attention (Kang and McAuley, ICDM 2018), cross-entropy",
        fixed={"alpha": 1.0, "lambda_kd": 0.0},
    ),
    "sasrec-ted": ModelSpec("SASRec + TED", "SASRec with distillation", fixed={"alpha": 1.0}),
    # Other backbones: arXiv 1511.06939 and 2202.13556; layers/gru.py and layers/fmlp.py say what
    # differs from the authors' code.
    "gru4rec": ModelSpec(
        "GRU4Rec",
        "recurrent network (Hidasi et al., ICLR 2016), cross-entropy",
        fixed=_NO_KD,
        backbone="gru",
    ),
    "gru4rec-ted": ModelSpec("GRU4Rec + TED", "GRU4Rec with distillation", backbone="gru"),
    "fmlp": ModelSpec(
        "FMLP-Rec",
        "filter-enhanced MLP (Zhou et al., WWW 2022), causal, cross-entropy",
        fixed=_NO_KD,
        defaults={"num_blocks": 2},
        backbone="fmlp",
    ),
    "fmlp-ted": ModelSpec(
        "FMLP-Rec + TED", "FMLP-Rec with distillation", defaults={"num_blocks": 2}, backbone="fmlp"
    ),
    # The transition graph in the item vectors, instead of distillation.
    "ges": ModelSpec(
        "GES",
        "MQSA, item vectors smoothed over the transition graph (GES; Zhu et al., TKDE 2021)",
        fixed=_NO_KD,
        graph="smoothed",
    ),
    "grareg": ModelSpec(
        "GraReg",
        "MQSA, item vectors regularised by the transition graph (GraReg)",
        fixed=_NO_KD,
        graph="regularised",
    ),
    "graphsage": ModelSpec(
        "GraphSAGE",
        "MQSA, item vectors by GraphSAGE over the transition graph (Hamilton et al., NIPS 2017)",
        fixed=_NO_KD,
        graph="graphsage",
    ),
    "gat": ModelSpec(
        "GAT",
        "MQSA, item vectors by graph attention over the transition graph (Velickovic et al., 2018)",
        fixed=_NO_KD,
        graph="gat",
    ),
    # The project's own recipe, chosen on the validation splits of Beauty and Toys. The encoder
    # trains alone; the term joins at validation (models/transition_term.py). Evaluation sees the
    # exponential moving average of the parameters, which hardly varies between epochs: hence the
    # shorter patience.
    PLUS: ModelSpec(
        "MQSA-TED+",
        "MQSA-TED with a sparse transition term in the scores, and averaged parameters",
        defaults={
            "term_items": 4,
            "term_span": 8,
            "term_neighbours": 32,
            "term_symmetric": 0.0,
            "term_weight": 12.0,
            "ema_decay": 0.995,
            "patience": 10,
        },
    ),
    # Counted, not trained.
    "popular": ModelSpec("Most popular", "most popular items; not trained", counted=True),
    "transition": ModelSpec(
        "Transition counts", "transition counts from the newest item; not trained", counted=True
    ),
    "transition-rows": ModelSpec(
        "Transition probabilities",
        "transition probabilities from the newest item; not trained",
        counted=True,
    ),
    "transition-paths": ModelSpec(
        "Transition paths",
        "decayed transitions over several steps, both ways, from the latest items; not trained",
        defaults={"term_items": 4},
        counted=True,
    ),
}
"""By name, in the order of tables and legends."""


def with_model(config: Config, name: str, **flags: Any) -> Config:
    """The configuration of another model: its defaults, then `flags`, then what it fixes."""
    spec = MODELS[name]
    return Config.from_flat(
        {**config.flat(), "model": name, **spec.defaults, **flags, **spec.fixed}
    )


def check_model_settings(config: Config) -> None:
    """Raises SettingError naming the setting, if one contradicts the model."""
    values = config.flat()
    for flag, value in MODELS[config.model.model].fixed.items():
        if values[flag] != value:
            raise SettingError(
                f"{{model}} {config.model.model} fixes {{{flag}}} at {value}, "
                f"got {values[flag]}; leave it out, or choose another {{model}}"
            )
    if not MODELS[config.model.model].counted:
        return
    for flag in ("init_from", "item_attributes", "user_traits"):
        if values[flag] is not None:
            raise SettingError(
                f"{{model}} {config.model.model} is counted, not trained: leave {{{flag}}} out"
            )


def check_split(config: Config) -> None:
    """Raises SettingError if the item vectors of a configuration cannot be split over devices."""
    problem = ""
    if MODELS[config.model.model].graph != "unused":
        problem = f"{{model}} {config.model.model} makes item vectors of a graph of all items"
    elif config.attributes.describes_items:
        problem = "{item_attributes} makes item vectors of those of all attributes"
    if problem:
        raise SettingError(
            f"{problem}, which cannot be split over devices: leave {{mesh}} and {{shard_items}} out"
        )
