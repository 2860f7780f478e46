"""One experiment a data set: the paper, the command, the time it takes, the figures to expect."""
