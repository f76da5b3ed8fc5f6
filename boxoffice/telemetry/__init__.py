"""Log lines that say whose request and what is waited for, without card numbers; numbers for Prometheus; traces. It stops
nobody."""
