"""selfhost: from a model's name to a healthy endpoint on GPUs of your own."""

__version__ = "0.1.0"
