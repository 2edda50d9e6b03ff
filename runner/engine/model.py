"""A loaded model: weights, vocabulary, facts.  Runs in the engine's process."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.errors import LoadFailed

Tokens = npt.NDArray[np.int32]

ALL_LAYERS = -1  # ``n_gpu_layers``: a negative value means all
_PIECE_BYTES = 512
_META_BYTES = 4096
_ATTR_SPECIAL = 1 << 0 | 1 << 3 | 1 << 4  # enum llama_token_attr: unknown, control, user defined


@dataclass(frozen=True)
class ModelFacts:
    description: str
    architecture: str
    parameters: int
    bytes: int
    train_context: int
    vocabulary: int
    embedding: int  # width of an embedding
    generates: bool  # False: an embedding or reranking model without a causal decoder
    ranks: bool  # gives a query and a document one score
    shares_prefixes: bool  # False for recurrent and hybrid memories, which cannot drop a tail or copy a part
    devices: str


class Model:
    def __init__(
        self,
        library: Any,
        paths: list[Path],
        *,
        gpu_layers: int = ALL_LAYERS,
        loras: Sequence[tuple[str, float]] = (),
    ) -> None:
        self.lib = library
        library.llama_backend_init()
        params = library.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        self.handle = _open(library, paths, params)
        if not self.handle:
            raise LoadFailed(
                f"llama.cpp refuses {paths[0].name}: this build may not know its architecture, or the file is damaged",
                remedy="the engine's last lines of output say more (hm model logs)",
            )
        self.adapters = [(self._adapter(Path(path)), scale) for path, scale in loras]
        self.vocab = library.llama_model_get_vocab(self.handle)
        self.size = int(library.llama_vocab_n_tokens(self.vocab))
        self.facts = self._facts()
        self.end_tokens = [t for t in range(self.size) if library.llama_vocab_is_eog(self.vocab, t)]
        self._ends = frozenset(self.end_tokens)
        self._pieces: dict[int, bytes] = {}
        self._special_pieces: dict[int, bytes] = {}

    def adapt(self, context: Any) -> None:
        """Let ``context`` compute with the adapters."""
        if not self.adapters:
            return
        count = len(self.adapters)
        handles = (self.lib.llama_adapter_lora_p_ctypes * count)(*(handle for handle, _ in self.adapters))
        scales = (ctypes.c_float * count)(*(scale for _, scale in self.adapters))
        if self.lib.llama_set_adapters_lora(context, handles, count, scales):
            raise LoadFailed("llama.cpp refuses the adapters", remedy="the engine's last lines of output say more")

    def _adapter(self, path: Path) -> Any:
        handle = self.lib.llama_adapter_lora_init(self.handle, str(path).encode())
        if not handle:
            raise LoadFailed(
                f"llama.cpp refuses the adapter {path.name[:12]}: it may be for another model",
                remedy="the engine's last lines of output say more (hm model logs)",
            )
        return handle

    def is_end(self, token: int) -> bool:
        return token in self._ends

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> Tokens:
        data = text.encode(errors="replace")
        room = len(data) + 16
        while True:
            tokens = np.empty(room, np.int32)
            pointer = tokens.ctypes.data_as(self.lib.llama_token_p)
            count = self.lib.llama_tokenize(self.vocab, data, len(data), pointer, room, add_special, parse_special)
            if count >= 0:
                return tokens[:count].copy()
            room = -count

    def piece(self, token: int) -> bytes:
        """The token's bytes; control tokens have none."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._render(token, special=False)
        return piece

    def special_piece(self, token: int) -> bytes:
        """The token's bytes, of control tokens too."""
        piece = self._pieces.get(token) or self._special_pieces.get(token)
        if piece is None:
            piece = self._special_pieces[token] = self._render(token, special=True)
        return piece

    def special_texts(self) -> list[str]:
        """Texts that the tokenizer would turn into control or user-defined tokens."""
        attr = self.lib.llama_vocab_get_attr
        ids = [t for t in range(self.size) if attr(self.vocab, t) & _ATTR_SPECIAL]
        return [text for t in ids if (text := self.special_piece(t).decode(errors="replace")).strip()]

    def token_text(self, kind: str) -> str:
        """``kind``: ``bos`` or ``eos``; empty where the vocabulary has none."""
        token = getattr(self.lib, f"llama_vocab_{kind}")(self.vocab)
        return self.special_piece(token).decode(errors="replace") if token >= 0 else ""

    def chat_template(self) -> str:
        text = self.lib.llama_model_chat_template(self.handle, None)
        return text.decode(errors="replace") if text else ""

    def rank_pair(self, query: str, document: str) -> Tokens:
        """A query and a document as a reranker reads them: its own template, else the separators of its vocabulary
        (llama.cpp, ``tools/server``, ``format_prompt_rerank``)."""
        lib, vocab = self.lib, self.vocab
        template = lib.llama_model_chat_template(self.handle, b"rerank")
        if template:
            text = template.decode(errors="replace").replace("{query}", query).replace("{document}", document)
            return self.tokenize(text, add_special=False, parse_special=True)
        end = lib.llama_vocab_eos(vocab)
        ends = [end if end >= 0 else lib.llama_vocab_sep(vocab)] if lib.llama_vocab_get_add_eos(vocab) else []
        parts = [
            [lib.llama_vocab_bos(vocab)] if lib.llama_vocab_get_add_bos(vocab) else [],
            self.tokenize(query, add_special=False, parse_special=False),
            [*ends, *([lib.llama_vocab_sep(vocab)] if lib.llama_vocab_get_add_sep(vocab) else [])],
            self.tokenize(document, add_special=False, parse_special=False),
            ends,
        ]
        return np.concatenate([np.array(p, np.int32) for p in parts])

    def adds_bos(self) -> bool:
        return bool(self.lib.llama_vocab_get_add_bos(self.vocab))

    def idle_cells(self) -> int:
        """How many cells that a token does not see make it about 2 % slower: looking at one costs each head of each layer
        as much as 20 of the model's parameters (measured with SmolLM2 on x86-64)."""
        looks = self.lib.llama_model_n_layer(self.handle) * self.lib.llama_model_n_head(self.handle)
        return int(self.facts.parameters / 50 / 20 / max(looks, 1))

    def close(self) -> None:
        if self.handle:
            self.lib.llama_model_free(self.handle)
            self.handle = None

    def _render(self, token: int, *, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)  # not kept: two threads ask
        count = self.lib.llama_token_to_piece(self.vocab, token, buffer, _PIECE_BYTES, 0, special)
        if count >= 0:
            return buffer.raw[:count]
        large = ctypes.create_string_buffer(-count)
        self.lib.llama_token_to_piece(self.vocab, token, large, -count, 0, special)
        return large.raw

    def _facts(self) -> ModelFacts:
        lib, model = self.lib, self.handle
        architecture = self.meta("general.architecture")
        recurrent = lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model)
        description = ctypes.create_string_buffer(256)
        lib.llama_model_desc(model, description, 256)
        return ModelFacts(
            description=description.value.decode(errors="replace"),
            architecture=architecture,
            parameters=int(lib.llama_model_n_params(model)),
            bytes=int(lib.llama_model_size(model)),
            train_context=int(lib.llama_model_n_ctx_train(model)),
            vocabulary=self.size,
            embedding=int(lib.llama_model_n_embd_out(model)),
            generates=bool(lib.llama_model_has_decoder(model))
            and self.meta(f"{architecture}.attention.causal") != "false"
            and self.meta(f"{architecture}.pooling_type") != str(lib.LLAMA_POOLING_TYPE_RANK),
            ranks=self.meta(f"{architecture}.pooling_type") == str(lib.LLAMA_POOLING_TYPE_RANK),
            shares_prefixes=not recurrent,
            devices=lib.llama_print_system_info().decode(errors="replace").strip(),
        )

    def meta(self, key: str) -> str:
        buffer = ctypes.create_string_buffer(_META_BYTES)
        count = self.lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, _META_BYTES)
        return buffer.value.decode(errors="replace") if count >= 0 else ""


def _open(library: Any, paths: list[Path], params: Any) -> Any:
    if len(paths) == 1:
        return library.llama_model_load_from_file(str(paths[0]).encode(), params)
    names = (ctypes.c_char_p * len(paths))(*(str(p).encode() for p in paths))
    return library.llama_model_load_from_splits(names, len(paths), params)
