"""Learning to restore. Knows photos, degradations and backbones; knows nothing of files to restore."""
