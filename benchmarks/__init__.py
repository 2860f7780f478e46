"""What the project costs, measured: `make bench`. Nothing here asserts a time."""
