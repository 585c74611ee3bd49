"""`flask …`: what operators ask of the running server."""
