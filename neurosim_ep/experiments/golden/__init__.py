"""The golden vectors: read, and compared with what the program computes."""
