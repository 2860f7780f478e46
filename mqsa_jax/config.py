"""Every hyper-parameter with its default, in one tree of frozen dataclasses.

The command line, `config.json` and the checkpoints are all made from this tree. It holds plain
Python values and imports no JAX, so that `--help` and argument errors come at once.
"""

import dataclasses
from typing import Annotated, Any, Literal

from mqsa_jax.attribute_settings import AttributesConfig
from mqsa_jax.errors import SettingError, UserError
from mqsa_jax.fields import (
    BelowOne,
    Count,
    Factor,
    Fraction,
    NotNegative,
    Positive,
    Range,
    Whole,
    build,
    leaves,
    range_of,
)
from mqsa_jax.mesh_shape import axis_sizes
from mqsa_jax.older_runs import WITHOUT_FLAG

FORMAT_VERSION = 2
"""Of `Config.stored`. Files without a version are of the first."""
FILE_KEYS = ("format_version", "data_fingerprint")
"""Keys of a stored configuration that are not flags."""

# fmt: off
ModelName = Literal[
    "mqsa-ted", "mqsa", "l-query", "sasrec", "sasrec-ted", "gru4rec", "gru4rec-ted", "fmlp",
    "fmlp-ted", "ges", "grareg", "graphsage", "gat", "mqsa-ted-plus", "popular", "transition",
    "transition-rows", "transition-paths",
]
"""The keys of `models.registry.MODELS`, in its order."""
# fmt: on
ExcludeSeen = Literal["history", "window", "none"]
"""Items left out of a ranking: all consumed before the target, the last max_len, or none."""
ShardItems = Literal["model", "all"]
"""Axes of the mesh that item tables are split over."""

Stream = Literal["auto", "always", "never"]
"""Whether a prepared folder is read block by block."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The encoder; by default the two-branch L-query one (paper, section 3)."""

    model: ModelName = "mqsa-ted"
    """What is trained; a model fixes some flags and may start others from defaults of its own."""
    dim: Count = 64
    """Width of item vectors and hidden layers (d in the paper)."""
    num_blocks: Count = 1
    """Blocks of each branch of attention (the paper uses 1), or layers of another backbone."""
    num_heads: Count = 1
    """Attention heads; must divide --dim."""
    window: Count = 3
    """Items averaged into the long branch's query (L in the paper); at --max-len or above, all."""
    alpha: Fraction = 0.5
    """Weight of the short branch in the user vector, 0 to 1 (alpha in the paper)."""
    dropout: BelowOne = 0.5
    """Probability of dropping a unit, 0 up to but not including 1."""
    # The newest of these items is a target only, so that a single item would train nothing.
    max_len: Annotated[int, Range("at least 2", lambda v: v >= 2)] = 50
    """Items of a history that the model reads, the most recent ones (n in the paper)."""


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The combined ranking and distillation objective (paper, section 4)."""

    lambda_kd: NotNegative = 0.1
    """Weight of the distillation loss (lambda in the paper); 0 leaves it out and saves time."""
    tau: Positive = 0.1
    """Softmax temperature of teacher and student, above 0 (tau in the paper)."""
    time_span: Count = 1
    """Steps ahead that count as a transition; 1 counts direct successors only."""
    span_decay: Factor = 1.0
    """Weight of one more step ahead, or on a path, above 0, at most 1; 1 weighs all alike."""
    symmetric: Fraction = 0.0
    """Weight of a transition when counted backwards too, 0 to 1; 0 does not count it."""
    popularity: NotNegative = 0.0
    """Exponent that damps transitions of frequent items; 0 does not, 0.5 normalises the graph."""
    multi_step: Count = 1
    """Transitions of the longest path from which the teacher learns; 1 takes no paths."""
    l2: NotNegative = 1e-4
    """Weight of half the sum of squares of all parameters."""
    lambda_graph: NotNegative = 1.0
    """Weight of the graph regularisation of --model grareg; others have none."""
    ranking_loss: Literal["full", "sampled", "gbce"] = "full"
    """Softmax over all items, over sampled ones, or gBCE; distillation is sampled likewise."""
    num_negatives: Whole = 1024
    """Items drawn a step that a sampled loss scores beside the targets; 0: those of the batch."""
    negatives: Literal["uniform", "popularity"] = "uniform"
    """Items drawn are all equally likely, or as likely as they are training targets."""
    in_batch_negatives: bool = False
    """Score the step's other targets too (on several devices, the device's own)."""
    gbce_calibration: Fraction = 0.75
    """How far gBCE corrects its scores for sampling, 0 (BCE) to 1 (as of all items; t there)."""


@dataclasses.dataclass(frozen=True)
class TermConfig:
    """The sparse transition term of the scores (mqsa_jax/models/transition_term.py)."""

    term_items: Whole = 0
    """Recent items from which transitions are scored; 0: scores are inner products alone."""
    term_neighbours: Count = 16
    """Strongest transitions of an item that are kept."""
    term_weight: Positive = 16.0
    """Weight of the newest item's transitions; where the term is trained, at the start."""
    term_decay: Factor = 0.6
    """Factor of that weight from an item to the one before it, above 0, at most 1."""
    term_dropout: Fraction = 1.0
    """Probability of training a position without the term; 1: train the encoder alone."""
    term_span: Count = 5
    """Steps ahead that count as a transition of the term."""
    term_span_decay: Factor = 0.7
    """Weight of one more step ahead in a transition of the term, above 0, at most 1."""
    term_symmetric: Fraction = 0.1
    """Weight of a transition of the term when counted backwards too, 0 to 1."""
    term_popularity: NotNegative = 0.3
    """Exponent that damps frequent items as targets of the term; 0 does not."""
    choose_term_weight: bool = False
    """After training, choose the weight on validation, from 0 to twice --term-weight."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Optimiser, schedule and randomness."""

    lr: Positive = 1e-3
    """Learning rate of Adam."""
    ema_decay: BelowOne = 0.0
    """Decay a step of the moving average of the parameters, which is evaluated; 0: no average."""
    batch_size: Count = 256
    """Users in a step, over all devices together."""
    epochs: Count = 200
    """Passes over the users at most."""
    patience: Count = 20
    """Epochs without a better validation NDCG@20 after which training stops."""
    seed: Annotated[int, Range("between 0 and 4294967295", lambda v: 0 <= v < 2**32)] = 2023
    """Seed of initialisation, order of users and dropout."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Factors of the matrix products of training; sums, losses and parameters stay float32."""
    init_from: str | None = None
    """Folder of a run whose best epoch training starts from, items matched by id."""
    stream_window: Count = 1 << 20
    """Users of a stream that are shuffled together (docs/streaming.md)."""
    lazy_adam: bool = False
    """Update the item vectors of a step alone, with a sampled loss: no longer Adam of all items."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How validation, early stopping and the test rank the items."""

    exclude_seen: ExcludeSeen = "history"
    """Left out of rankings: all items consumed before, those in the last max_len, or none."""
    eval_users: Whole = 0
    """Users that validation and test rank, drawn once for all runs; 0: all of them."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where data and results lie, and which devices work."""

    data_dir: str | None = None
    """Folder of the data files; otherwise $MQSA_DATA_DIR, the user's cache, a download."""
    run_dir: str | None = None
    """Folder of the results (default: runs/DATASET-SEED, or runs/DATASET-MODEL-SEED)."""
    resume: bool = True
    """Continue the run that --run-dir holds; --no-resume deletes it and starts afresh."""
    devices: Count | None = None
    """Local devices to use (default: all of them)."""
    parallel: Literal["jit", "pmap"] = "jit"
    """How training spreads over devices: jit over a mesh, or pmap."""
    stream: Stream = "auto"
    """Read a prepared folder block by block: always, never, or from 134 million interactions on."""
    stream_workers: Whole = 0
    """Processes that read and pack a stream; 0: a thread does."""
    mesh: str = "data=-1,model=1"
    """Devices along the axes of the mesh; -1 for one of them: as many as there are."""
    shard_items: ShardItems = "model"
    """Axes that item tables are split over: model, or all of them."""
    save_every: Count = 2048
    """Steps between saves within an epoch of more; each epoch is saved at its end too."""
    coordinator_address: str | None = None
    """HOST:PORT of the first of several processes (default: $JAX_COORDINATOR_ADDRESS, or found)."""
    num_processes: Count | None = None
    """Processes that train together (default: as the launcher says, or 1)."""
    process_id: Annotated[int, Range("0 or above", lambda v: v >= 0)] | None = None
    """Number of this process, from 0 (default: as the launcher says)."""
    preflight: str | None = None
    """Train nothing: compile the run for v5e:16x16, h100, ... and say what it needs there."""
    profile: Count | None = None
    """Steps to trace into RUN_DIR/profile for TensorBoard, XProf and Perfetto (default: none)."""
    debug_nans: bool = False
    """Stop at the operation that makes a NaN (jax_debug_nans of JAX); slow."""


RUN_FLAGS = frozenset(field.name for field in dataclasses.fields(RunConfig))
"""Flags that are not part of what is trained: they change results by rounding at most."""
MAY_CHANGE = RUN_FLAGS | {"epochs", "patience"}
"""Flags in which a resumed run may differ from the one before: none changes an epoch's result."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One experiment."""

    dataset: str = "synthetic"
    """synthetic, beauty, sports, toys, yelp, a prepared folder, a raw log (CSV, JSON, Parquet ...),
    or a text file `user item item ...`."""
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    term: TermConfig = TermConfig()
    attributes: AttributesConfig = AttributesConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()

    def flat(self) -> dict[str, Any]:
        """All values by flag name (underscores), in declaration order."""
        return {name: value for name, _, value in leaves(self)}

    def validate(self) -> None:
        """Raises SettingError in one line, naming the setting, if a value is out of range."""
        for name, hint, value in leaves(self):
            wanted = range_of(hint)
            if value is not None and wanted and not wanted.accepts(value):
                raise SettingError(f"{{{name}}} must be {wanted.wording}, got {value}")
        self._check_mesh()
        self.attributes.check()
        dim, heads = self.model.dim, self.model.num_heads
        if dim % heads:
            raise SettingError(
                f"{{num_heads}} {heads} does not divide {{dim}} {dim}; choose a divisor"
            )

    def _check_mesh(self) -> None:
        sizes = axis_sizes(self.run.mesh)
        if self.run.parallel == "pmap" and (sizes[1] != 1 or self.run.shard_items == "all"):
            raise SettingError(
                "{parallel} pmap splits users alone: leave {mesh} and {shard_items} out, or use jit"
            )

    @classmethod
    def from_flat(cls, values: dict[str, Any]) -> "Config":
        """The inverse of `flat`. Raises UserError naming keys unknown, missing or mistyped."""
        odd = sorted(values.keys() ^ cls().flat().keys())
        if odd:
            raise UserError(f"unknown or missing configuration keys: {', '.join(odd)}")
        return build(cls, values)

    def stored(self) -> dict[str, Any]:
        """All values as a file keeps them: `flat`, after the version of the format."""
        return {"format_version": FORMAT_VERSION, **self.flat()}

    @classmethod
    def from_stored(cls, values: Any) -> "Config":
        """The configuration in a file of this version or an older one.

        Flags that an older file lacks get the value that leaves the run what it was.

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
        return build(cls, {**general, **WITHOUT_FLAG, **flags})
