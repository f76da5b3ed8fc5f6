"""Draining what was admitted: claim, authorise, decide, commit in one transaction, tell Redis."""
