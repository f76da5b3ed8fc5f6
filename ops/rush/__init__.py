"""The sale simulator: a rush of customers, optionally with components killed under it, and the audit afterwards."""
