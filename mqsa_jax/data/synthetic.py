"""The embedded data set: generated, seeded, with planted tastes and planted transitions."""
