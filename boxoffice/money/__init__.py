"""What is due at the gateway after a commit, and money that comes or goes back outside a settlement."""
