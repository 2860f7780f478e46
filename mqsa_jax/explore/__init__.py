"""The local web page of `mqsa-jax explore`: lists and their reasons, a map of the items, curves."""
