"""Telling shops at their own addresses what happened: endpoints, deliveries, couriers. What gateways tell us is not here."""
