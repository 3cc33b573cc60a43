"""Randomness as an argument: CPU generators derived from a seed and the names of what they serve."""

import hashlib

import torch


def subseed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and every name, the same on every machine and Python."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A fresh CPU generator for one purpose, e.g. `generator(seed, "restore", path.name)`."""
    return torch.Generator(device="cpu").manual_seed(subseed(seed, *names))
