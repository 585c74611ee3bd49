"""The HTTP connection to the upstream, and its parser."""
