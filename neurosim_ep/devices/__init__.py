"""What one memristor does: programming, read noise, drift, faults, pulse response; device cards."""
