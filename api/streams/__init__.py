"""Server-sent events: one booking's states, and what is left of an event. Written at the transport, below ASGI."""
