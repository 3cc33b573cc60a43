"""A text encoder that says nothing: for small models that were never taught any words."""

from pathlib import Path


def save_wordless_encoder(folder: Path, dim: int) -> None:
    """Adds `tokenizer/` and `text_encoder/` to a model folder, for which every prompt is zeros.

    The encoder is a real UMT5 whose last norm is zero. All tokens being alike, attention to one of them is attention to
    any number, so a model trained on a single zero token answers the same to the 512 that prompts are padded to.

    Args:
        folder: of the model.
        dim: width of the embeddings.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    config = UMT5Config(
        vocab_size=3, d_model=dim, d_kv=8, d_ff=8, num_layers=1, num_heads=1, dropout_rate=0.0
    )
    encoder = UMT5EncoderModel(config)
    with torch.no_grad():
        encoder.encoder.final_layer_norm.weight.zero_()
    encoder.save_pretrained(folder / "text_encoder")
