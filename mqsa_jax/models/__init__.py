"""The recommender and its parts; `registry.py` lists what `--model` selects."""
