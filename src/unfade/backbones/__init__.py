"""Generative models behind one denoiser contract. `tiny` needs nothing but torch."""
