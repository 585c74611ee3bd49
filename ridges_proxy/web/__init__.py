"""HTTP: blueprints, schemas, who is calling, and errors. Thin."""
