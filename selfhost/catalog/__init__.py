"""Dated facts as TOML with a loader each: GPUs, model configurations, calibration constants."""
