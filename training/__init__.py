"""Offline jobs: one stage a file, tables in, tables and a JSON summary out."""
