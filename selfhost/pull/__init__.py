"""Weights on disk: which files, whether they may be used, how they get here whole, and where they go next."""
