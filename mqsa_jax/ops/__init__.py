"""V-wide products and log-sum-exps, chosen by platform; nothing else knows of devices."""
