"""How much a run can spend above its cap, through any gateway: see docs/OVERSPEND.md."""
