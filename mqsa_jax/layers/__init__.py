"""Arrays to scores: embeddings, L-query attention, the two-branch encoder."""
