"""Faults of LLM serving in anybody's manifests: read YAML once into `Lot`, run every rule over it, return findings."""
