"""Renew all long measurements, and the table of their results: python -m bench.proof."""
