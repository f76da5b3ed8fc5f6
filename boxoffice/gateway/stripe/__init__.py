"""Stripe, through its own package. Imported only when it is configured."""
