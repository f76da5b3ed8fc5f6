"""What disagrees between the stores and the gateway: noticed, counted, mended. Called by operators and by the workers' rounds."""
