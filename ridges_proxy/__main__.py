"""`python -m ridges_proxy`: the command `ridges-proxy` without its script."""

from ridges_proxy.cli.main import main

main(prog_name="ridges-proxy")
