"""How much of its budget a run can use through the proxy, see docs/reference/overspend.md."""
