"""Log lines that say whose request and what is waited for, without card numbers; and numbers for Prometheus. Stops nobody."""
