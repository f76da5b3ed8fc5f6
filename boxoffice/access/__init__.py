"""Who may call: clients, their API keys, and what those may be used for."""
