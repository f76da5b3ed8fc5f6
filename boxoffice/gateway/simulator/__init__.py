"""The simulated bank: its books, what it answers, its webhooks, its page."""
