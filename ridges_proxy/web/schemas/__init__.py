"""The schemas that validate requests."""
