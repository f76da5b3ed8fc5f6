"""What PostgreSQL says of bookings, payments and stock: statements, and their mirror in Redis. No gateway."""
