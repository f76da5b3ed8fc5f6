"""What disagrees between the stores and the gateway: noticed, counted, mended. Operators and the workers' rounds call it."""
