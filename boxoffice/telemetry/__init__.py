"""Log lines, with card numbers kept out of them, and numbers for Prometheus. May be lost, never stops anybody."""
