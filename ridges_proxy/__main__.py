"""`python -m ridges_proxy`: the same as the command `ridges-proxy`."""

from ridges_proxy.cli.main import main

main(prog_name="ridges-proxy")
