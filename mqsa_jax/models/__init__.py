"""The models that `--model` selects, a file each: the parts that each is built of."""
