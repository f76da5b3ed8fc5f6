"""Who may call: clients and their API keys."""
