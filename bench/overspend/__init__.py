"""How much a run can overspend its budget through a gateway, see docs/reference/overspend.md."""
