"""The ledger in Redis, or in a Redis cluster."""
