"""Authentication: run tokens, and the throttling of invalid API keys."""
