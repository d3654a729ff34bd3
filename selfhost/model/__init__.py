"""config.json and tensor headers -> ModelSpec, once; nobody downstream reads a raw config."""
