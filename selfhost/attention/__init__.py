"""What one layer keeps per sequence, one class per kind."""
