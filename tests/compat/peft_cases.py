"""Models and settings that lorakit and PEFT can both carry out, for the differential tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A base model with random weights, a LoRA config in the fields that both libraries have."""

    build: Callable[[], nn.Module]
    config: Mapping[str, Any]
    inputs: Callable[[], Inputs]
    slices: Mapping[str, Any] = field(default_factory=dict)
    """What PEFT does not have: only the direction from lorakit to PEFT is possible."""

    def model(self) -> nn.Module:
        """The same weights at every call."""
        torch.manual_seed(11)
        return self.build().eval()

    def batch(self) -> Inputs:
        """The same inputs at every call."""
        torch.manual_seed(12)
        return self.inputs()


class Layered(nn.Module):
    """Any layers one after another, with an embedding and a head that have names to match."""

    def __init__(self, *body: nn.Module, embed: nn.Module | None = None, out: int = 6) -> None:
        super().__init__()
        self.embed = embed if embed is not None else nn.Identity()
        self.body = nn.Sequential(*body)
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x)).flatten(1))


def layered(*body: nn.Module, x: Tensor, embed: nn.Module | None = None) -> nn.Module:
    """A `Layered` whose head has the size that `x` leads to."""
    model = Layered(*body, embed=embed)
    with torch.no_grad():
        model(x)
    return model


class Normed(nn.Module):
    """A body and a head with running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(7, 6)
        self.head = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(x)))


class Fused(nn.Module):
    """Grouped-query attention with one weight for q (8), k (4) and v (4)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(7, 16)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split([8, 4, 4], dim=-1)
        scores = torch.softmax(q.unflatten(-1, (2, 4)) @ k.transpose(-1, -2).unsqueeze(1), -1)
        return self.out((scores @ v.unsqueeze(1)).flatten(-2))


class Attentive(nn.Module):
    """nn.MultiheadAttention on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attn(x, x, x)[0])


class TwoHeads(nn.Module):
    """One head's name is the end of the other's."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(7, 6)
        self.head = nn.Linear(6, 3)
        self.lm_head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.body(x))
        return self.head(h) + self.lm_head(h)


def tensor(*shape: int) -> Callable[[], Inputs]:
    return lambda: {"x": torch.randn(*shape)}


def ids(*shape: int, below: int = 40) -> Callable[[], Inputs]:
    return lambda: {"input_ids": torch.randint(3, below, shape)}


def hf(name: str, **config: Any) -> Callable[[], nn.Module]:
    """A transformers model of this class from a small random configuration."""

    def build() -> nn.Module:
        cls = getattr(transformers, name)
        return cls(cls.config_class(**config))

    return build


ENCODER = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}
DECODER = {**ENCODER, "num_key_value_heads": 1, "pad_token_id": 0}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24}
T5 = {
    "vocab_size": 40,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
VIT = {**{k: v for k, v in ENCODER.items() if k != "vocab_size"}, "image_size": 8, "patch_size": 4}


def conv(kind: type[nn.Module], *x_shape: int, **options: Any) -> dict[str, Any]:
    """Build and inputs for a convolution between an activation and a head."""
    channels = x_shape[1]

    def build() -> nn.Module:
        return layered(kind(channels, 6, **options), nn.Tanh(), x=torch.randn(*x_shape))

    return {"build": build, "inputs": tensor(*x_shape)}


def mlp() -> nn.Module:
    return layered(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 5, bias=False), x=torch.randn(2, 7))


def table() -> nn.Module:
    x = torch.zeros(2, 3, dtype=torch.long)
    return layered(nn.Linear(6, 5), nn.Tanh(), x=x, embed=nn.Embedding(40, 6))


def labelled(inputs: Callable[[], Inputs]) -> Callable[[], Inputs]:
    return lambda: {**inputs(), "decoder_input_ids": torch.randint(3, 40, (2, 5))}


CASES: dict[str, Case] = {
    "linear": Case(mlp, {"r": 3, "lora_alpha": 5, "target_modules": ["0", "2"]}, tensor(4, 7)),
    "rslora": Case(
        mlp,
        {"r": 3, "lora_alpha": 5, "target_modules": ["0", "2"], "use_rslora": True},
        tensor(4, 7),
    ),
    "DoRA": Case(
        mlp, {"r": 3, "lora_alpha": 5, "target_modules": ["0", "2"], "use_dora": True}, tensor(4, 7)
    ),
    "DoRA with rsLoRA and patterns": Case(
        mlp,
        {
            "r": 3,
            "target_modules": ["0", "2"],
            "modules_to_save": ["head"],
            "bias": "lora_only",
            "use_dora": True,
            "use_rslora": True,
            "rank_pattern": {"0": 5},
            "alpha_pattern": {"2": 1},
        },
        tensor(4, 7),
    ),
    "patterns": Case(
        mlp,
        {
            "r": 3,
            "target_modules": ["0", "2"],
            "rank_pattern": {"body.0": 2},
            "alpha_pattern": {"2": 9.5},
        },
        tensor(4, 7),
    ),
    "rslora with patterns": Case(
        mlp,
        {
            "r": 3,
            "target_modules": ["0", "2"],
            "use_rslora": True,
            "rank_pattern": {"0": 5},
            "alpha_pattern": {"0": 1},
        },
        tensor(4, 7),
    ),
    "rank above the size": Case(mlp, {"r": 9, "target_modules": ["0"]}, tensor(4, 7)),
    "regular expression": Case(mlp, {"r": 2, "target_modules": r"body\.[02]"}, tensor(4, 7)),
    "head": Case(mlp, {"r": 2, "target_modules": ["0"], "modules_to_save": ["head"]}, tensor(4, 7)),
    "two heads": Case(
        TwoHeads, {"r": 2, "target_modules": ["body"], "modules_to_save": ["lm_head"]}, tensor(4, 7)
    ),
    "BatchNorm head": Case(
        Normed, {"r": 2, "target_modules": ["body"], "modules_to_save": ["head"]}, tensor(4, 7)
    ),
    "all biases": Case(mlp, {"r": 2, "target_modules": ["0"], "bias": "all"}, tensor(4, 7)),
    "biases of adapted": Case(
        mlp, {"r": 2, "target_modules": ["0"], "bias": "lora_only"}, tensor(4, 7)
    ),
    "all biases and a head": Case(
        mlp,
        {"r": 2, "target_modules": ["0"], "bias": "all", "modules_to_save": ["head"]},
        tensor(4, 7),
    ),
    "embedding": Case(
        table,
        {"r": 3, "target_modules": ["embed", "0"]},
        lambda: {"x": torch.randint(0, 40, (2, 3))},
    ),
    "Conv1d": Case(
        **conv(nn.Conv1d, 2, 4, 9, kernel_size=3, stride=2, padding=1),
        config={"r": 3, "target_modules": ["0"]},
    ),
    "Conv2d": Case(
        **conv(nn.Conv2d, 2, 4, 9, 7, kernel_size=(3, 2), stride=(2, 1), padding=(1, 0)),
        config={"r": 3, "target_modules": ["0"], "use_rslora": True},
    ),
    "Conv2d square": Case(
        **conv(nn.Conv2d, 2, 4, 7, 7, kernel_size=3, bias=False),
        config={"r": 2, "lora_alpha": 3, "target_modules": ["0"]},
    ),
    "Conv3d": Case(
        **conv(nn.Conv3d, 2, 4, 5, 4, 5, kernel_size=(1, 3, 2)),
        config={"r": 3, "target_modules": ["0"]},
    ),
    "MultiheadAttention": Case(
        Attentive, {"r": 3, "lora_alpha": 6, "target_modules": ["attn"]}, tensor(2, 5, 8)
    ),
    "fused slices of unequal height": Case(
        Fused,
        {"r": 2, "lora_alpha": 3, "target_modules": ["qkv"]},
        tensor(2, 5, 7),
        slices={"qkv": [(8, True), (4, False), (4, True)]},
    ),
    "fused slices with rsLoRA": Case(
        Fused,
        {"r": 2, "lora_alpha": 3, "target_modules": ["qkv", "out"], "use_rslora": True},
        tensor(2, 5, 7),
        slices={"qkv": [(8, True), (4, True), (4, True)]},
    ),
    "BERT": Case(
        hf("BertModel", **ENCODER), {"r": 2, "target_modules": ["query", "value"]}, ids(2, 6)
    ),
    "BERT, every linear layer": Case(
        hf("BertForMaskedLM", **ENCODER), {"r": 2, "target_modules": "all-linear"}, ids(2, 6)
    ),
    "BERT, one layer": Case(
        hf("BertModel", **ENCODER),
        {"r": 2, "target_modules": ["query", "dense"], "layers_to_transform": [1]},
        ids(2, 6),
    ),
    "BERT, with exclusions": Case(
        hf("BertModel", **ENCODER),
        {
            "r": 2,
            "target_modules": ["query", "dense"],
            "exclude_modules": ["pooler.dense", "output.dense"],
        },
        ids(2, 6),
    ),
    "RoBERTa classifier": Case(
        hf("RobertaForSequenceClassification", **ENCODER, num_labels=3),
        {"r": 2, "target_modules": ["query", "value"], "modules_to_save": ["classifier"]},
        ids(2, 6),
    ),
    "DistilBERT": Case(
        hf(
            "DistilBertModel",
            vocab_size=40,
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=24,
            max_position_embeddings=24,
        ),
        {"r": 2, "target_modules": ["q_lin", "v_lin"], "bias": "lora_only"},
        ids(2, 6),
    ),
    "DeBERTa-v2": Case(
        hf("DebertaV2Model", **ENCODER, relative_attention=True),
        {"r": 2, "target_modules": ["query_proj", "value_proj"]},
        ids(2, 6),
    ),
    "GPT-2, Conv1D": Case(
        hf("GPT2LMHeadModel", **GPT2),
        {"r": 2, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
        ids(2, 6),
    ),
    "GPT-2, Conv1D, DoRA": Case(
        hf("GPT2LMHeadModel", **GPT2),
        {"r": 2, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "use_dora": True},
        ids(2, 6),
    ),
    "GPT-2, q and v": Case(
        hf("GPT2LMHeadModel", **GPT2),
        {"r": 2, "lora_alpha": 8, "target_modules": ["c_attn"]},
        ids(2, 6),
        slices={"c_attn": [True, False, True]},
    ),
    "Llama": Case(
        hf("LlamaForCausalLM", **DECODER), {"r": 2, "target_modules": "all-linear"}, ids(2, 6)
    ),
    "Llama, DoRA": Case(
        hf("LlamaForCausalLM", **DECODER),
        {"r": 2, "target_modules": "all-linear", "use_dora": True},
        ids(2, 6),
    ),
    "Phi-3, q and v of unequal height": Case(
        hf("Phi3ForCausalLM", **DECODER),
        {"r": 2, "target_modules": ["qkv_proj"]},
        ids(2, 6),
        slices={"qkv_proj": [(16, True), (8, False), (8, True)]},
    ),
    "OPT": Case(
        hf(
            "OPTForCausalLM",
            vocab_size=40,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=24,
            max_position_embeddings=24,
            word_embed_proj_dim=16,
        ),
        {"r": 2, "target_modules": ["q_proj", "v_proj"], "bias": "all"},
        ids(2, 6),
    ),
    "T5": Case(
        hf("T5ForConditionalGeneration", **T5),
        {"r": 2, "target_modules": ["q", "v"]},
        labelled(ids(2, 6)),
    ),
    "ViT": Case(
        hf("ViTForImageClassification", **VIT, num_labels=3),
        {
            "r": 2,
            "target_modules": ["q_proj", "v_proj", "projection"],
            "modules_to_save": ["classifier"],
        },
        lambda: {"pixel_values": torch.randn(2, 3, 8, 8)},
    ),
    "Whisper": Case(
        hf(
            "WhisperForConditionalGeneration",
            vocab_size=40,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            num_mel_bins=8,
            max_source_positions=10,
            max_target_positions=12,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        ),
        {"r": 2, "target_modules": ["q_proj", "v_proj"]},
        lambda: {
            "input_features": torch.randn(2, 8, 20),
            "decoder_input_ids": torch.randint(3, 40, (2, 5)),
        },
    ),
}
