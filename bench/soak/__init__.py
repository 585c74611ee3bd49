"""Hours in minutes: mixed clients at most of what a worker carries, and nothing may grow, leak or differ."""
