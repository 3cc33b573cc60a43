"""A text encoder of a few words, for small CogVideoX models: random, but every sentence of them is told apart."""

from collections.abc import Iterable
from pathlib import Path


def save_few_words_encoder(folder: Path, sentences: Iterable[str], dim: int, seed: int = 0) -> None:
    """Adds `tokenizer/` and `text_encoder/` to a model folder: a real T5 with random weights.

    Args:
        folder: of the model.
        sentences: whose words are known; all other words are alike.
        dim: width of the embeddings, a multiple of 16.
        seed: of the weights.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    split = pre_tokenizers.Whitespace()
    words = {word for sentence in sentences for word, _ in split.pre_tokenize_str(sentence.lower())}
    known = ["<pad>", "</s>", "<unk>", *sorted(words)]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(known)}, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = split  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = T5Config(
            vocab_size=len(known),
            d_model=dim,
            d_kv=16,
            d_ff=2 * dim,
            num_layers=2,
            num_heads=dim // 16,
            dropout_rate=0.0,
        )
        T5EncoderModel(config).save_pretrained(folder / "text_encoder")
