"""The HTTP routes: agents, OpenAI-compatible, admin, health and metrics."""
