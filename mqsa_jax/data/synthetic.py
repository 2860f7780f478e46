"""The embedded data set: generated, seeded, with planted tastes and planted transitions.

Each user moves through a catalogue of items sorted into clusters:

1. An item belongs to one cluster and has a popularity with a long tail. It has a few planted
   successors, each less likely than the one before, mostly in other clusters: what is bought next
   has to go with it, but is no more of the same.
2. A user has tastes: a few clusters, and at any time an interest in one of them, which lasts for
   some events and then moves to another.
3. Each event is, at random, a planted successor of a recent item; or a popular item of the cluster
   of interest; or noise, a popular item of any cluster. The recent item is most often the last one,
   but may be one of the few before it. No user takes an item twice.

So no part of the model is enough. The last item tells most about the next one, which a short query
reads off; the items before it and the interest take an average of several, which a long query reads
off. And most successors are seen a few times only, which takes a global view of all transitions:
the teacher's.

Shape legend: U users, V items, G clusters, S successors of an item.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mqsa_jax.data.histories import MIN_ITEMS, Histories, make_histories

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """Sizes and probabilities of the generated data."""

    num_users: int = 2500
    num_items: int = 1000
    num_clusters: int = 25
    num_successors: int = 6
    """Planted successors of an item."""
    top_successor: float = 0.4
    """Probability of the first of them rather than one of the others; so again for the second."""
    num_tastes: int = 2
    """Clusters that a user likes."""
    persistence: float = 0.8
    """Probability that the interest stays where it is from one event to the next."""
    transition_fraction: float = 0.6
    """Fraction of the events that are planted successors of a recent item."""
    reach: int = 3
    """Items back that a successor may follow."""
    recency: float = 0.5
    """Probability that it follows the last item rather than one before; so again for that one."""
    taste_fraction: float = 0.3
    """Fraction of the events that come from the interest; what remains is noise."""
    mean_length: float = 9.0
    """Mean items of a history."""
    min_length: int = 5
    """Fewest items of a history; at least 3."""
    max_length: int = 40
    """Most items of a history."""
    popularity_exponent: float = 0.6
    """Popularity of the n-th item of a cluster is n to minus this."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The planted structure of the items, common to all users.

    Attributes:
        cluster: int64 [V], cluster of each item, ascending.
        successors: int64 [V, S], planted successors, the likeliest first.
        first: int64 [G + 1], first item of each cluster; the last entry is V.
        mass: float64 [V + 1], popularity of all items before an item; the last entry is the total.
    """

    cluster: Ints
    successors: Ints
    first: Ints
    mass: Floats

    def popular(self, rng: np.random.Generator, lower: Ints, upper: Ints) -> Ints:
        """One item by popularity from each range lower..upper-1; all arrays [N]."""
        low, high = self.mass[lower], self.mass[upper]
        point = low + rng.random(low.shape) * (high - low)
        item = np.searchsorted(self.mass, point, side="right") - 1
        return np.clip(item, lower, upper - 1)


def make_catalogue(rng: np.random.Generator, recipe: Recipe) -> Catalogue:
    """Draws clusters of nearly equal size, and the planted successors."""
    items = np.arange(recipe.num_items)
    first = np.linspace(0, recipe.num_items, recipe.num_clusters + 1).astype(np.int64)
    cluster = np.searchsorted(first, items, side="right") - 1
    popularity = (items - first[cluster] + 1.0) ** -recipe.popularity_exponent
    # An item's successors are the next ones in a few random orders of all items: none is its own
    # successor, and all are equally often a successor.
    successors = np.empty((recipe.num_items, recipe.num_successors), np.int64)
    for rank in range(recipe.num_successors):
        order = rng.permutation(recipe.num_items)
        successors[order, rank] = np.roll(order, -1)
    return Catalogue(cluster, successors, first, np.append(0.0, np.cumsum(popularity)))


def synthetic_histories(seed: int = 0, recipe: Recipe = Recipe()) -> Histories:
    """Generates the data set; a pure function of its arguments.

    Args:
        seed: of everything drawn.
        recipe: sizes and probabilities.

    Returns:
        Histories of at least 3 items, none of them twice. The ids of users and items count from 1;
        items that no user takes are not in the vocabulary.
    """
    rng = np.random.default_rng(seed)
    catalogue = make_catalogue(rng, recipe)
    length = _draw_lengths(rng, recipe)
    item = _walk(rng, recipe, catalogue, int(length.max()))
    sequences = [row[:size] + 1 for row, size in zip(item, length, strict=True)]
    return make_histories(np.arange(recipe.num_users) + 1, sequences)


def _draw_lengths(rng: np.random.Generator, recipe: Recipe) -> Ints:
    """[U] lengths: the shortest plus a geometric number, at most the longest."""
    fewest = max(recipe.min_length, MIN_ITEMS)
    extra = rng.geometric(1 / (recipe.mean_length - fewest + 1), recipe.num_users) - 1
    return np.minimum(fewest + extra, recipe.max_length)


def _walk(rng: np.random.Generator, recipe: Recipe, catalogue: Catalogue, steps: int) -> Ints:
    """[U, steps] items of every user."""
    users = np.arange(recipe.num_users)
    tastes = rng.random((recipe.num_users, recipe.num_clusters)).argsort(1)[:, : recipe.num_tastes]
    interest = tastes[:, 0]
    taken = np.zeros((recipe.num_users, recipe.num_items), bool)
    item = np.empty((recipe.num_users, steps), np.int64)
    for step in range(steps):
        moved = rng.random(recipe.num_users) >= recipe.persistence
        other = tastes[users, rng.integers(recipe.num_tastes, size=recipe.num_users)]
        interest = np.where(moved, other, interest)
        # Users who would take an item for the second time draw again.
        again = users
        while again.size:
            before = None
            if step:
                lag = np.minimum(
                    rng.geometric(recipe.recency, again.shape), min(step, recipe.reach)
                )
                before = item[again, step - lag]
            drawn = _draw_items(rng, recipe, catalogue, before, interest[again])
            item[again, step] = drawn
            again = again[taken[again, drawn]]
        taken[users, item[:, step]] = True
    return item


def _draw_items(
    rng: np.random.Generator,
    recipe: Recipe,
    catalogue: Catalogue,
    before: Ints | None,
    interest: Ints,
) -> Ints:
    """[N] next items, given the recent items `before` [N] (None: none yet) and the interest [N]."""
    nothing = np.zeros_like(interest)
    kind = rng.random(interest.shape)
    by_taste = catalogue.popular(rng, catalogue.first[interest], catalogue.first[interest + 1])
    by_chance = catalogue.popular(rng, nothing, nothing + recipe.num_items)
    known = recipe.transition_fraction + recipe.taste_fraction
    drawn = np.where(kind < known, by_taste, by_chance)
    if before is None:
        return drawn
    rank = (
        np.minimum(rng.geometric(recipe.top_successor, interest.shape), recipe.num_successors) - 1
    )
    return np.where(kind < recipe.transition_fraction, catalogue.successors[before, rank], drawn)
