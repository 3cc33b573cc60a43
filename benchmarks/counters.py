"""How much work a V-Bridge restoration is: evaluations, frames through the VAE, loads of the text encoder.

    python benchmarks/counters.py -o benchmarks/results/counters.json

Counts don't depend on the size of a model, so a small one of the real classes with random weights is counted, by hooks
on its modules, with the published number of steps. Seconds are `make gpu-bench`'s business.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from measurement import REPOSITORY, Bar, print_bars, print_table, write_results
from unfade.backbones.prompt_embeddings import PromptEmbeddings
from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL
from unfade.core import Clip
from unfade.restore.latent import LatentRestorer
from unfade.restore.vbridge import PAPER, RELEASE, VBridgeSettings

SETTINGS: dict[str, VBridgeSettings] = {
    "paper": PAPER,
    "release": RELEASE,
    "paper, 5 frames": replace(PAPER, frames=5),
    "no guidance": replace(PAPER, guidance=1.0),
}


@dataclass(slots=True)
class Counts:
    """Of one restoration.

    Attributes:
        calls: evaluations of the transformer.
        encoded, decoded: frames through the VAE.
        prompt_projections: how often a cross-attention projected a prompt's keys, per layer.
        encoder_loads: of the text encoder.
    """

    calls: int = 0
    encoded: int = 0
    decoded: int = 0
    prompt_projections: int = 0
    encoder_loads: int = 0


def save_text_encoder(folder: Path) -> None:
    """A tiny UMT5 encoder with a tokenizer that knows whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "restoration-focused": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    config = UMT5Config(vocab_size=4, d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")


def watched(wan: Wan, counts: Counts) -> list[Any]:
    """Hooks that count what modules really do, apart from the counters of our own classes."""

    def evaluated(*_: Any) -> None:
        counts.calls += 1

    def projected(*_: Any) -> None:
        counts.prompt_projections += 1

    def encoded(_: Any, given: tuple[torch.Tensor, ...]) -> None:
        counts.encoded += given[0].shape[0] * given[0].shape[2]

    def decoded(_: Any, given: Any, answer: torch.Tensor) -> None:
        counts.decoded += answer.shape[0] * answer.shape[2]

    model, vae = wan.denoiser.model, wan.vae.model
    return [
        model.register_forward_hook(evaluated),
        model.blocks[0].attn2.to_k.register_forward_hook(projected),  # type: ignore[union-attr]
        vae.encoder.register_forward_pre_hook(encoded),
        vae.decoder.register_forward_hook(decoded),
    ]


def counted(settings: VBridgeSettings, folder: Path, cache: Path) -> tuple[Counts, Counts]:
    """What the hooks and what our own counters say of one photo, with a restorer made afresh."""
    torch.manual_seed(0)
    wan = build_wan(SMALL)
    embed = PromptEmbeddings(folder, cache, length=32, dtype=torch.float32)
    restorer = LatentRestorer("small", wan.config, lambda device, dtype: wan, embed, settings)
    counts = Counts()
    hooks = watched(wan, counts)
    photo = Clip(torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0)))
    restorer.restore(photo, device="cpu", dtype="fp32")
    for hook in hooks:
        hook.remove()
    counts.encoder_loads = embed.loads
    own = Counts(wan.denoiser.calls, wan.vae.frames_encoded, wan.vae.frames_decoded, 0, embed.loads)
    return counts, replace(own, prompt_projections=counts.prompt_projections)


def measured() -> tuple[dict[str, Any], list[Bar]]:
    """Figures and bars: everything is exactly what it must be, or it is missed."""
    figures: dict[str, Any] = {}
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as home:
        folder, cache = Path(home) / "model", Path(home) / "prompts"
        save_text_encoder(folder)
        for turn, (name, settings) in enumerate(SETTINGS.items()):
            hooks, own = counted(settings, folder, cache)
            prompts = 2 if settings.guidance > 1 else 1
            wanted = {
                "calls": settings.evaluations,
                "encoded": 1,
                "decoded": settings.frames,
                "prompt_projections": prompts,
                "encoder_loads": 1 if turn == 0 else 0,
            }
            figures[name] = {"name": name, **{field: getattr(hooks, field) for field in wanted}}
            for field, value in wanted.items():
                off = max(abs(getattr(told, field) - value) for told in (hooks, own))
                bars.append(Bar(f"{name}: {field} off {value} by", float(off), 0.0, at_most=True))
    return figures, bars


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if a count is not what it must be")
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "benchmarks/results/counters.json")
    asked = parser.parse_args(arguments)
    figures, bars = measured()
    header = ("settings", "evaluations", "encoded", "decoded", "prompt projections", "encoder loads")
    print_table(header, [tuple(row.values()) for row in figures.values()])
    print_bars(bars)
    write_results(asked.output, {"counters": figures}, bars)
    print(f"written: {asked.output}")
    return 1 if asked.strict and any(not bar.passed for bar in bars) else 0


if __name__ == "__main__":
    sys.exit(main())
