"""A small byte-level tokenizer, in a file like that of a real model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from pathlib import Path


def small_tokenizer(folder: Path) -> Path:
    """Write a tokenizer that knows the words "hello" and "world", and return the path of its file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["hello world"] * 10, trainer)
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=5)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path
