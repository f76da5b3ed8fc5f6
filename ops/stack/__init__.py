"""Embedded servers and the processes of a stack: found, started, supervised, stopped."""
