"""Figures of a clip: fidelity in every convention, perceptual ones, networks that judge, and those of footage."""
