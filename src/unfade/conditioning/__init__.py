"""What is put on top of a backbone to make it restore: adapters. Knows backbones, nothing of files to restore."""
