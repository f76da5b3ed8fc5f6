"""One booking after its admission: read, held, paid, extended, cancelled."""
