"""The ways to Redis and PostgreSQL, and what makes a store believable. Knows no booking's fate."""
