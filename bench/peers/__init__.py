"""Other gateways and plain forwarders, each with its installation, its settings and its start."""
