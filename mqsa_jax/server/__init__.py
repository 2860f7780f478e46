"""A server of recommendations over HTTP: requests that arrive together are scored as one batch."""
