"""User vectors in, ranks out: one ranking path for validation, test and serving."""
