"""Names of the parts that a model may be built of; without JAX, for the command line."""

from typing import Literal

Backbone = Literal["attention", "gru", "fmlp"]
"""What turns item vectors into user vectors."""
Graph = Literal["unused", "smoothed", "regularised", "graphsage", "gat"]
"""How the graph of item transitions enters the item vectors."""
