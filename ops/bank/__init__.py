"""The simulated bank as a process of its own: `boxoffice gateway`."""
