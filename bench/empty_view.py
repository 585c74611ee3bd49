"""A Flask view that does nothing, for comparison under gunicorn."""

from flask import Flask

app = Flask(__name__)


@app.post("/empty")
def empty() -> str:
    return "empty"
