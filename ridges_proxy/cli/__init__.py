"""The command line: `ridges-proxy …`, and the operators' commands as `flask …`."""
