"""The teacher itself as recommender: how often each item followed the newest one, C[last item]."""

from mqsa_jax.zoo.spec import ModelSpec


def counting(experiment):
    """The counts of the transitions that the flags ask for; by default direct successors."""
    from mqsa_jax.inference.counting import Counting

    return Counting(experiment.transition_counts().to_scipy())


spec = ModelSpec("transition counts from the newest item; not trained", counting=counting)
