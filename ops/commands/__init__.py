"""One module for each command, or for some that belong together."""
