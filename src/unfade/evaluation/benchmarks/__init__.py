"""Benchmarks as data, their files found on disk, and each case made ready to be measured."""
