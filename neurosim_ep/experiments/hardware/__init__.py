"""Trained networks mapped to simulated hardware: accuracy, attribution, tables and records."""
