"""What the page shows for a history: the lists of every part of a model, and why an item is there.

Shape legend: V items, K items of a list, T positions, P parts.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mqsa_jax.config import ExcludeSeen
from mqsa_jax.data.attributes import Attributes
from mqsa_jax.data.sequences import Sequences
from mqsa_jax.data.user_traits import UserTraits
from mqsa_jax.errors import UserError
from mqsa_jax.explore.list_program import PartLists, Settings, part_lists
from mqsa_jax.explore.transitions import Transitions
from mqsa_jax.inference.loaded_run import TrainedRun
from mqsa_jax.inference.ranks import NO_ITEM
from mqsa_jax.models.registry import MODELS

MAX_FACTOR = 4.0
"""Largest multiple of the term's weight."""
BRANCHES = ("short", "long")
NOBODY = -1


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a person asks for."""

    history: Sequence[int]
    """Item indices, oldest first; at least one."""
    alpha: float
    window: int
    term_factor: float
    exclude_seen: ExcludeSeen
    item: int | None = None
    """Item to say more of."""
    user: int = NOBODY
    """Position in the data of the user whose traits count; `NOBODY` has none."""


class ModelLists:
    """The lists of a trained run."""

    def __init__(self, run: TrainedRun, k: int, traits: Attributes | None = None):
        """Takes the run, the length of the lists, and the traits of the users of its data."""
        self.run, self.k, self._traits = run, min(k, run.num_items), traits
        self.alpha, self.max_len = float(run.hparams.alpha), run.recommender.max_len
        self.attends = run.recommender.backbone == "attention"
        mixes = self.attends and 0 < self.alpha < 1
        self.branches = BRANCHES if mixes else (BRANCHES[self.alpha == 0],) * self.attends
        self.term_weight = _term_weight(run)
        has_term = self.term_weight is not None
        self.parts: tuple[str, ...] = (
            "model",
            *("mixed",) * has_term,
            *BRANCHES * mixes,
            *("term",) * has_term,
        )
        """Those of `PARTS` that differ from one another in this model."""

    @functools.cached_property
    def transitions(self) -> Transitions | None:
        """Those of training; None where the run does not hold them: there is no teacher then."""
        try:
            return Transitions(self.run.counts.transitions, float(self.run.hparams.tau))
        except UserError:
            return None

    def columns(self) -> list[dict[str, str]]:
        """`key`, `title` and `note` of each list, in the order of the page."""
        config, mixes = self.run.config, len(self.branches) == len(BRANCHES)
        encoder = "α short + (1 − α) long" if mixes else "the encoder"
        has_term = "term" in self.parts
        model_note = f"{encoder} + term" if has_term else encoder if mixes else "recommended"
        named = {
            "model": (MODELS[config.model.model].title, model_note),
            "mixed": ("Both branches" if mixes else "Encoder", "without the term"),
            "short": ("Short branch", "queries the newest item"),
            "long": ("Long branch", "queries the mean of the last L"),
            "term": ("Transition term", "transitions from the latest items"),
        }
        if self.transitions is not None:
            used = config.objective.lambda_kd > 0
            note = "what followed the newest item" if used else "not used by this model"
            named["teacher"] = ("Teacher", note)
        return [
            {"key": key, "title": title, "note": note}
            for key, (title, note) in named.items()
            if key in (*self.parts, "teacher")
        ]

    def defaults(self) -> dict[str, Any]:
        """The run's own settings; None for one that its lists do not depend on."""
        run = self.run
        return {
            "alpha": round(self.alpha, 6) if len(self.branches) > 1 else None,
            "window": min(int(run.hparams.window), self.max_len)
            if "long" in self.branches
            else None,
            "term_weight": self.term_weight,
            "max_factor": MAX_FACTOR,
            "max_len": self.max_len,
            "exclude_seen": run.config.evaluation.exclude_seen,
            "k": self.k,
        }

    def answer(self, asked: Asked) -> dict[str, Any]:
        """`lists` by key of the column, `attention` by branch, `reasons` of the item asked for."""
        allowed_V = self._allowed(asked)
        found = self._run_program(asked, allowed_V)
        lists = {
            part: _listed(item_K, score_K)
            for part, item_K, score_K in zip(self.parts, found.items, found.scores, strict=True)
        }
        reasons = None if asked.item is None else self._reasons(asked, found)
        if self.transitions is not None:
            newest = asked.history[-1]
            probability_V = self.transitions.probabilities(newest)
            followed = self.transitions.followers(newest)
            followed = followed[allowed_V[followed]]
            best_K = followed[np.argsort(-probability_V[followed], kind="stable")][: self.k]
            lists["teacher"] = _listed(best_K, probability_V[best_K])
            if reasons is not None:
                reasons["parts"]["teacher"] = _standing(probability_V, allowed_V, asked.item)
        length = len(self._read(asked))
        attention = {
            branch: [round(float(weight), 5) for weight in weight_T[-length:]]
            for branch, weight_T in zip(BRANCHES, found.attention, strict=False)
            if branch in self.branches
        }
        return {"lists": lists, "attention": attention, "reasons": reasons}

    def warm_up(self) -> None:
        """Compiles the programs, so that the first answer comes at once."""
        policy = self.run.config.evaluation.exclude_seen
        self.answer(Asked([0], 0.5, 1, 1.0, policy, 0))

    def _run_program(self, asked: Asked, allowed_V: np.ndarray) -> PartLists:
        run = self.run
        settings = Settings(
            jnp.int32(asked.window), jnp.float32(asked.alpha), jnp.float32(asked.term_factor)
        )
        found = part_lists(
            run.recommender,
            self.parts,
            self.k,
            run.params,
            Sequences.of([np.asarray(asked.history, np.int32)], self.max_len),
            settings,
            allowed_V,
            jnp.int32(asked.item or 0),
            run.relations,
            UserTraits.of(self._traits, np.array([asked.user])),
        )
        return jax.tree.map(np.asarray, found)

    def _allowed(self, asked: Asked) -> np.ndarray:
        """[V] whether an item may be listed."""
        left_out = {"history": asked.history, "window": self._read(asked), "none": []}
        allowed_V = np.ones(self.run.num_items, bool)
        allowed_V[np.asarray(left_out[asked.exclude_seen], np.int32)] = False
        return allowed_V

    def _read(self, asked: Asked) -> Sequence[int]:
        """The items of the history that the model reads."""
        return asked.history[-self.max_len :]

    def _reasons(self, asked: Asked, found: PartLists) -> dict[str, Any]:
        """Score and rank of an item by part, and what leads to it from the history."""
        standing = zip(self.parts, found.item_score, found.item_rank, strict=True)
        read = self._read(asked)
        from_recent = zip(reversed(read), found.from_recent, strict=False)
        return {
            "item": asked.item,
            "parts": {
                part: {"score": _finite(score), "rank": _finite(rank)}
                for part, score, rank in standing
            },
            "term": [
                {"item": int(item), "score": float(score)}
                for item, score in from_recent
                if score > 0
            ],
            "transitions": []
            if self.transitions is None
            else self.transitions.into(asked.item, np.array(read)),
        }


def _term_weight(run: TrainedRun) -> float | None:
    """The weight of the newest item's transitions; None without a term or if it is 0."""
    if not run.recommender.num_recent:
        return None
    return float(jnp.exp(run.params["transition_term"]["log_weight"][0])) or None


def _standing(value_V: np.ndarray, allowed_V: np.ndarray, item: int) -> dict[str, float | None]:
    """Value and rank of an item, 1 + those above it + half the ties; None if it is left out."""
    value, rank = value_V[item], None
    if allowed_V[item]:
        others_N = value_V[allowed_V]
        rank = 0.5 + (others_N > value).sum() + 0.5 * (others_N == value).sum()
    return {"score": float(value), "rank": rank if rank is None else float(rank)}


def _listed(item_K: np.ndarray, score_K: np.ndarray) -> list[dict[str, int | float]]:
    return [
        {"item": int(item), "score": float(score)}
        for item, score in zip(item_K, score_K, strict=True)
        if item != NO_ITEM
    ]


def _finite(value: Any) -> float | None:
    """The number, or None for an infinite one, which JSON does not have."""
    return float(value) if math.isfinite(value) else None
