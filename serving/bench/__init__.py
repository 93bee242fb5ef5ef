"""Benchmarks of the product's own path, each with its peer in the same run; modules load singly."""
