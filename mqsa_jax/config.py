"""Every hyper-parameter with its default, in one tree of frozen dataclasses.

The command line, `config.json` and the checkpoints are all made from this tree. It holds plain
Python values and imports no JAX, so that `--help` and argument errors come at once.
"""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any, Literal

from mqsa_jax.errors import UserError
from mqsa_jax.ranges import problem

FORMAT_VERSION = 2
"""Of `Config.stored`. Files without a version are of the first."""
FILE_KEYS = ("format_version", "data_fingerprint")
"""Keys of a stored configuration that are not flags."""
WITHOUT_FLAG: dict[str, Any] = {
    "model": "mqsa-ted",
    "span_decay": 1.0,
    "symmetric": 0.0,
    "popularity": 0.0,
    "multi_step": 1,
    "lambda_graph": 1.0,
    "term_items": 0,
    "ema_decay": 0.0,
    "precision": "float32",
}
"""What runs did before a flag was there, whatever its default is today."""

ModelName = Literal[
    "mqsa-ted",
    "mqsa",
    "l-query",
    "sasrec",
    "sasrec-ted",
    "gru4rec",
    "gru4rec-ted",
    "fmlp",
    "fmlp-ted",
    "ges",
    "grareg",
    "graphsage",
    "gat",
    "mqsa-ted-plus",
    "popular",
    "transition",
    "transition-rows",
    "transition-paths",
]
"""The keys of `models.registry.MODELS`, in its order."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The encoder; by default the two-branch L-query one (paper, section 3)."""

    model: ModelName = "mqsa-ted"
    """What is trained; a model fixes some flags and may start others from defaults of its own."""
    dim: int = 64
    """Width of item vectors and hidden layers (d in the paper)."""
    num_blocks: int = 1
    """Blocks of each branch of attention (the paper uses 1), or layers of another backbone."""
    num_heads: int = 1
    """Attention heads; must divide --dim."""
    window: int = 3
    """Items averaged into the long branch's query (L in the paper); at --max-len or above, all."""
    alpha: float = 0.5
    """Share of the short branch in the user vector, 0 to 1 (alpha in the paper)."""
    dropout: float = 0.5
    """Probability of dropping a unit, 0 up to but not including 1."""
    max_len: int = 50
    """Items of a history that the model reads, the most recent ones (n in the paper)."""


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The combined ranking and distillation objective (paper, section 4)."""

    lambda_kd: float = 0.1
    """Weight of the distillation loss (lambda in the paper); 0 leaves it out and saves time."""
    tau: float = 0.1
    """Softmax temperature of teacher and student, above 0 (tau in the paper)."""
    time_span: int = 1
    """Steps ahead that count as a transition; 1 counts direct successors only."""
    span_decay: float = 1.0
    """Weight of one more step ahead, or on a path, above 0, at most 1; 1 weighs all alike."""
    symmetric: float = 0.0
    """Share in which a transition counts backwards too, 0 to 1."""
    popularity: float = 0.0
    """Exponent that damps transitions of frequent items; 0 does not, 0.5 normalises the graph."""
    multi_step: int = 1
    """Transitions of the longest path from which the teacher learns; 1 takes no paths."""
    l2: float = 1e-4
    """Weight of half the sum of squares of all parameters."""
    lambda_graph: float = 1.0
    """Weight of the graph regularisation of --model grareg; others have none."""


@dataclasses.dataclass(frozen=True)
class TermConfig:
    """The sparse transition term of the scores (mqsa_jax/models/transition_term.py)."""

    term_items: int = 0
    """Recent items from which transitions are scored; 0: scores are inner products alone."""
    term_neighbours: int = 16
    """Strongest transitions of an item that are kept."""
    term_weight: float = 16.0
    """Weight of the newest item's transitions; where the term is trained, at the start."""
    term_decay: float = 0.6
    """Factor of that weight from an item to the one before it, above 0, at most 1."""
    term_dropout: float = 1.0
    """Probability of training a position without the term; 1: the encoder trains alone."""
    term_span: int = 5
    """Steps ahead that count as a transition of the term."""
    term_span_decay: float = 0.7
    """Weight of one more step ahead, above 0, at most 1."""
    term_symmetric: float = 0.1
    """Share in which a transition of the term counts backwards too, 0 to 1."""
    term_popularity: float = 0.3
    """Exponent that damps frequent items as targets of the term; 0 does not."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Optimiser, schedule and randomness."""

    lr: float = 1e-3
    """Learning rate of Adam."""
    ema_decay: float = 0.0
    """Decay a step of the average of parameters that is evaluated; 0: they themselves are."""
    batch_size: int = 256
    """Users in a step, over all devices."""
    epochs: int = 200
    """Passes over the users at most."""
    patience: int = 20
    """Epochs without a better validation NDCG@20 after which training stops."""
    seed: int = 2023
    """Seed of initialisation, order of users and dropout."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Factors of the matrix products of training; sums, losses and parameters stay float32."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where data and results lie, and which devices work."""

    data_dir: str | None = None
    """Folder of the data files; otherwise $MQSA_DATA_DIR, the user's cache, a download."""
    run_dir: str | None = None
    """Folder of the results (default: runs/DATASET-SEED, or runs/DATASET-MODEL-SEED)."""
    resume: bool = True
    """Continue the run that --run-dir holds; --no-resume deletes it and starts afresh."""
    devices: int | None = None
    """Local devices to use (default: all of them)."""
    parallel: Literal["jit", "pmap"] = "jit"
    """How training spreads over devices: jit over a mesh, or pmap."""


RUN_FLAGS = frozenset(field.name for field in dataclasses.fields(RunConfig))
"""Flags on which no result depends, but for rounding."""
MAY_CHANGE = RUN_FLAGS | {"epochs", "patience"}
"""Flags in which a resumed run may differ from the one before: none changes an epoch's result."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    dataset: str = "synthetic"
    """synthetic, beauty, sports, toys, yelp, or the path of a file `user item item ...`."""
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    term: TermConfig = TermConfig()
    training: TrainingConfig = TrainingConfig()
    run: RunConfig = RunConfig()

    def flat(self) -> dict[str, Any]:
        """All values by flag name (underscores), in declaration order."""
        return dict(_leaves(self))

    def validate(self) -> None:
        """Raises UserError in one line, naming the flag, if a value is out of range."""
        for name, value in self.flat().items():
            wrong = problem(name, value)
            if wrong:
                raise UserError(f"--{name.replace('_', '-')} must be {wrong}, got {value}")
        if self.model.dim % self.model.num_heads:
            raise UserError(
                f"--num-heads {self.model.num_heads} does not divide --dim {self.model.dim}; "
                "choose a divisor"
            )

    @classmethod
    def from_flat(cls, values: dict[str, Any]) -> "Config":
        """The inverse of `flat`. Raises UserError naming keys unknown, missing or mistyped."""
        expected = cls().flat().keys()
        if values.keys() != expected:
            odd = sorted(values.keys() ^ expected)
            raise UserError(f"unknown or missing configuration keys: {', '.join(odd)}")
        return _build(cls, values)

    def stored(self) -> dict[str, Any]:
        """All values as a file keeps them: `flat`, after the version of the format."""
        return {"format_version": FORMAT_VERSION, **self.flat()}

    @classmethod
    def from_stored(cls, values: Any) -> "Config":
        """The configuration in a file of this version or an older one.

        Flags that the file lacks, being older than they, get the value that leaves the run what it
        was. Other parts of the file that are not flags (`FILE_KEYS`) are passed over.

        Raises:
          UserError: naming what is unknown or mistyped, or a version that is newer than this one.
        """
        if not isinstance(values, dict):
            raise UserError("not a configuration; restore or delete it")
        version = values.get("format_version", 1)
        if version not in range(1, FORMAT_VERSION + 1):
            raise UserError(
                f"format version {version!r} is unknown, the latest is {FORMAT_VERSION}; "
                "use the version of mqsa_jax that wrote it"
            )
        flags = {name: value for name, value in values.items() if name not in FILE_KEYS}
        general = cls().flat()
        unknown = sorted(flags.keys() - general.keys())
        if unknown:
            raise UserError(
                f"unknown configuration keys: {', '.join(unknown)}; delete them, "
                "or use the version of mqsa_jax that wrote them"
            )
        return _build(cls, {**general, **WITHOUT_FLAG, **flags})


def _leaves(node: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value)
        else:
            yield field.name, value


def _build(cls: type, values: dict[str, Any]) -> Any:
    arguments = {}
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type):
            arguments[field.name] = _build(field.type, values)
        elif _fits(values[field.name], field.type):
            arguments[field.name] = values[field.name]
        else:
            raise UserError(
                f"configuration key {field.name}: {values[field.name]!r} is of a wrong type; "
                "restore it"
            )
    return cls(**arguments)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value from a file is of a field's type."""
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    kinds = typing.get_args(hint) or (hint,)
    return any(type(value) is kind or (kind is float and type(value) is int) for kind in kinds)
