"""Whole runs as functions: the only place where training, restoring and evaluating meet."""
