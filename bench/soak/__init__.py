"""A soak test: mixed load for half an hour, then a check for growth, leaks and billing errors."""
