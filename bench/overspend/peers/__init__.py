"""The gateways of others that keep a budget for each run: a key, a user or a deployment is a run."""
