"""Client connections below HTTP: reading bodies, detecting a closed connection, limiting writes."""
