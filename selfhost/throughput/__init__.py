"""Latency and throughput of a deployment: what a step costs, what traffic makes of it, and how sure that is."""

from __future__ import annotations
