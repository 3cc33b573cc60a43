"""How good a restorer is: fidelity figures, the protocol that applies them, and classical peers.

Sees any model only as a `Restorer`. Nothing is imported here, so that importing it costs nothing.
"""
