"""Letting bookings in: one call of admit.lua for all that came in the meantime. No SQL."""
