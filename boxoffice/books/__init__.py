"""The only SQL that changes bookings, payments and stock: one verb a transition, told to Redis. Asks no gateway."""
