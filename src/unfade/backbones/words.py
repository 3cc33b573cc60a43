"""The text side of `tiny`: hashed words and word pairs, summed and mixed. No vocabulary file, any language."""

import re
import zlib

import torch
from torch import Tensor, nn

MAX_TOKENS = 128


# From one of these words to the end of its clause a prompt says what is to stay.
_KEEPING = re.compile(r"\b(?:keep(?:ing)?|leav(?:e|ing)|not|don't|without)\b[^,;.:!?\n]*")


def read_words(prompt: str) -> list[str]:
    """The words of a prompt, lower case; those that say what is to stay carry a mark, or "remove the noise, keep the
    haze" and "remove the haze, keep the noise" would have nearly the same words."""
    marked = _KEEPING.sub(lambda clause: re.sub(r"(\w+)", r"~\1", clause[0]), prompt.lower())
    return re.findall(r"~?\w+", marked)


def hashed(prompt: str, buckets: int) -> list[int]:
    """Bucket numbers (from 1; 0 is padding) of the words and neighbouring word pairs of a prompt.

    At most `MAX_TOKENS` numbers: what a very long prompt says after that is not read.
    """
    words = read_words(prompt)[: MAX_TOKENS // 2]
    pairs = [f"{first} {second}" for first, second in zip(words, words[1:], strict=False)]
    tokens = [*words, *pairs][:MAX_TOKENS]
    return [1 + zlib.crc32(token.encode("utf-8", "replace")) % (buckets - 1) for token in tokens]


class WordEncoder(nn.Module):
    """Prompts to vectors; no prompt (or one without a word in it) is exactly zero: "restore everything"."""

    def __init__(self, buckets: int, width: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.embedding = nn.Embedding(buckets, width, padding_idx=0)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, prompts: list[str | None]) -> Tensor:
        """`[B, width]` for B prompts."""
        rows = [hashed(prompt, self.buckets) if prompt else [] for prompt in prompts]
        longest = max(1, max(map(len, rows)))
        device = self.embedding.weight.device
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
        known = (tokens > 0).unsqueeze(-1)
        total = (self.embedding(tokens) * known).sum(1) / known.sum(1).clamp_min(1).sqrt()
        return self.mix(total) * known.any(1)
