"""A self-hosted recommendation-ranking library that reads item text."""
