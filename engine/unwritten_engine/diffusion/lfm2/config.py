"""The sizes of an LFM2 diffusion model from its ``config.json``, and the tensors that it needs. Does not use torch.

The backbone is LFM2: most layers are short convolutions, the others have attention. Noise conditioning and
self-conditioning have weights of their own. Without them the model writes nonsense, so a checkpoint that lacks one is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from ...errors import ModelBroken, ModelUnsupported
from ..loading import checkpoint as shared_checks
from ..loading.safetensors_index import TensorInfo

ARCHITECTURE: Final = "Lfm2ForBlockDiffusion"
MODEL_TYPE: Final = "lfm2_diffusion"
CONDITIONING: Final = ("sigma_embed.", "adaln_proj.", "adaln_block_emb", "selfcond_norm.", "selfcond_ffn.")
"""Prefixes of the tensors, after ``model.``, that LFM2 itself does not have."""
EMBEDDINGS: Final = "model.embed_tokens.weight"
HEAD: Final = "lm_head.weight"
"""Some checkpoints store this copy of the embeddings."""
_COMPUTED: Final = "rotary_emb.inv_freq"  # some versions of transformers store it
_REAL_TOKENS: Final[Mapping[int, int]] = {65_536: 64_400}
"""Real tokens of LFM2's vocabulary, for a ``config.json`` that does not state them."""
_KINDS: Final = ("full_attention", "conv")


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Number of parameters by kind.

    Attributes:
        linears: matrices of the layers, which can be quantized.
        embeddings: token embeddings, tied to the output.
        rest: conditioning, convolutions and norms.
    """

    linears: int
    embeddings: int
    rest: int

    @property
    def total(self) -> int:
        """All parameters."""
        return self.linears + self.embeddings + self.rest


@dataclass(frozen=True, slots=True)
class Lfm2Config:
    """Sizes of a model.

    Attributes:
        vocab_size: rows of the embeddings.
        real_vocab_size: tokens that exist; the other rows are padding.
        hidden_size: width of the residual stream.
        intermediate_size: width of the feed-forward layers, after the adjustment that ``config.json`` asks for.
        num_heads: query heads.
        num_kv_heads: heads of keys and values.
        head_dim: width of a head.
        layer_types: "full_attention" or "conv" per layer.
        conv_taps: inputs of each convolution: the present token and those before it.
        conv_bias: convolutions and their projections have biases.
        norm_eps: epsilon of the norms.
        rope_theta: base of the rotary frequencies.
        context: maximum tokens of prompt and output together.
        block_length: tokens that are denoised together.
        condition_size: width of the embedded noise level.
        frequency_size: sines and cosines of the noise level.
        selfcond_bias: the first linear layer of the self-conditioning has a bias.
    """

    vocab_size: int
    real_vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    layer_types: tuple[str, ...]
    conv_taps: int
    conv_bias: bool
    norm_eps: float
    rope_theta: float
    context: int
    block_length: int
    condition_size: int
    frequency_size: int
    selfcond_bias: bool

    @property
    def num_attention_layers(self) -> int:
        """Number of layers with attention."""
        return self.layer_types.count("full_attention")

    @property
    def num_conv_layers(self) -> int:
        """Number of layers with a convolution."""
        return self.layer_types.count("conv")

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every required tensor by its name in a checkpoint."""
        hidden, wide, condition = self.hidden_size, self.intermediate_size, self.condition_size
        shapes: dict[str, tuple[int, ...]] = {
            "embed_tokens.weight": (self.vocab_size, hidden),
            "embedding_norm.weight": (hidden,),
            "sigma_embed.mlp.0.weight": (condition, self.frequency_size),
            "sigma_embed.mlp.0.bias": (condition,),
            "sigma_embed.mlp.2.weight": (condition, condition),
            "sigma_embed.mlp.2.bias": (condition,),
            "adaln_proj.1.weight": (3 * hidden, condition),
            "adaln_proj.1.bias": (3 * hidden,),
            "adaln_block_emb": (len(self.layer_types), 3 * hidden),
            "selfcond_norm.weight": (hidden,),
            "selfcond_ffn.0.weight": (hidden, hidden),
            "selfcond_ffn.2.weight": (hidden, hidden),
        }
        if self.selfcond_bias:
            shapes["selfcond_ffn.0.bias"] = (hidden,)
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        for at, kind in enumerate(self.layer_types):
            layer: dict[str, tuple[int, ...]] = {
                "operator_norm.weight": (hidden,),
                "ffn_norm.weight": (hidden,),
                "feed_forward.w1.weight": (wide, hidden),
                "feed_forward.w2.weight": (hidden, wide),
                "feed_forward.w3.weight": (wide, hidden),
            }
            if kind == "full_attention":
                layer |= {
                    "self_attn.q_proj.weight": (queries, hidden),
                    "self_attn.k_proj.weight": (keys, hidden),
                    "self_attn.v_proj.weight": (keys, hidden),
                    "self_attn.out_proj.weight": (hidden, queries),
                    "self_attn.q_layernorm.weight": (self.head_dim,),
                    "self_attn.k_layernorm.weight": (self.head_dim,),
                }
            else:
                layer |= {
                    "conv.conv.weight": (hidden, 1, self.conv_taps),
                    "conv.in_proj.weight": (3 * hidden, hidden),
                    "conv.out_proj.weight": (hidden, hidden),
                }
                if self.conv_bias:
                    layer |= {
                        "conv.conv.bias": (hidden,),
                        "conv.in_proj.bias": (3 * hidden,),
                        "conv.out_proj.bias": (hidden,),
                    }
            shapes |= {f"layers.{at}.{name}": shape for name, shape in layer.items()}
        return {f"model.{name}": shape for name, shape in shapes.items()}

    def counts(self) -> ParameterCounts:
        """Return the number of parameters by kind."""
        kinds: dict[str, int] = dict.fromkeys(("linears", "embeddings", "rest"), 0)
        for name, shape in self.tensors().items():
            kinds[_kind(name, shape)] += prod(shape)
        return ParameterCounts(**kinds)

    def linear_rows(self) -> int:
        """Return the number of rows of all matrices of the layers."""
        return sum(shape[0] for name, shape in self.tensors().items() if _kind(name, shape) == "linears")

    def weight_bytes(self, number: int) -> int:
        """Return the bytes of the weights, with ``number`` bytes per parameter."""
        return self.counts().total * number

    def row_bytes(self, context: int, number: int) -> int:
        """Return the bytes of one row of the cache: keys and values with places for a block, and convolution state.

        Args:
            context: tokens of prompt and finished blocks.
            number: bytes per number.
        """
        keys = 2 * self.num_attention_layers * self.num_kv_heads * self.head_dim * (self.block_length + context)
        return (keys + self.num_conv_layers * (self.conv_taps - 1) * self.hidden_size) * number


def _kind(name: str, shape: tuple[int, ...]) -> str:
    """Return the kind of a tensor: a field of ``ParameterCounts``."""
    if name == EMBEDDINGS:
        return "embeddings"
    return "linears" if name.startswith("model.layers.") and len(shape) == 2 else "rest"


def read_config(config: Mapping[str, Any], name: str) -> Lfm2Config:
    """Read the sizes from a ``config.json``.

    Args:
        config: its contents.
        name: display name, for messages.

    Raises:
        ModelBroken: a value is missing or invalid. The message names it.
        ModelUnsupported: a variant of the model that this engine cannot run.
    """

    def size(key: str, default: int | None = None, *, least: int = 1) -> int:
        value = config.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise _invalid(name, key, value)
        return value

    def flag(key: str, default: bool) -> bool:
        value = config.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise _invalid(name, key, value)
        return value

    for key in ("adaln_conditioning", "self_conditioning"):
        if not flag(key, True):
            raise ModelUnsupported(
                f"{name} was trained without conditioning ({key} is false in its config.json). This engine needs a "
                f"model with noise conditioning and self-conditioning."
            )
    for key in ("tie_word_embeddings", "tie_embedding"):
        if not flag(key, True):
            raise ModelUnsupported(
                f"{name} has separate weights for its output ({key} is false in its config.json). This engine runs "
                f"models whose output is tied to the token embeddings."
            )
    hidden, heads = size("hidden_size"), size("num_attention_heads")
    kv_heads = size("num_key_value_heads", heads)
    if config.get("head_dim") is None and hidden % heads:
        raise _contradiction(name, f"{hidden} hidden units cannot be divided among {heads} heads")
    head = size("head_dim", hidden // heads, least=2)
    if heads % kv_heads:
        raise _contradiction(name, f"{heads} query heads cannot share {kv_heads} heads of keys and values")
    if head % 2:
        raise _contradiction(name, f"rotary embeddings need heads of an even width, not {head}")
    if size("conv_dim", hidden) != hidden:
        raise ModelUnsupported(f"{name} has convolutions of another width than its layers (conv_dim in config.json).")
    vocabulary = size("vocab_size")
    real = size("real_vocab_size", _REAL_TOKENS.get(vocabulary))
    if real > vocabulary:
        raise _contradiction(name, f"real_vocab_size is {real:,}, but vocab_size is only {vocabulary:,}")
    frequencies = size("sigma_freq_embedding_size", 256, least=2)
    if frequencies % 2:
        raise _contradiction(name, f"sigma_freq_embedding_size must be even, not {frequencies}")
    return Lfm2Config(
        vocab_size=vocabulary,
        real_vocab_size=real,
        hidden_size=hidden,
        intermediate_size=_intermediate_size(config, name, size, flag),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head,
        layer_types=_layer_types(config, name, size("num_hidden_layers")),
        conv_taps=size("conv_L_cache", 3, least=2),
        conv_bias=flag("conv_bias", False),
        norm_eps=_positive(config, "norm_eps", name, _positive(config, "block_norm_eps", name, 1e-5)),
        rope_theta=_rope_theta(config, name),
        context=size("max_position_embeddings", 128_000),
        block_length=size("diffusion_block_size", 32),
        condition_size=size("sigma_cond_dim", 256),
        frequency_size=frequencies,
        selfcond_bias=flag("selfcond_ffn_bias", True),
    )


def check_tensors(config: Lfm2Config, tensors: Mapping[str, TensorInfo], name: str) -> None:
    """Check that a checkpoint has exactly the tensors that its config needs.

    A copy of the embeddings under the name of the output is accepted; whether it is one is checked when it is loaded.

    Raises:
        ModelBroken: tensors are missing or have the wrong shape.
        ModelUnsupported: unknown tensors, or tensors of an unknown type.
    """
    wanted = config.tensors()
    missing = [key for key in wanted if key not in tensors and key.removeprefix("model.").startswith(CONDITIONING)]
    if missing:
        raise ModelBroken(
            f"{name} lacks weights of its conditioning: {_first_names(missing)}. Without them the model writes "
            f"nonsense. Fetch the checkpoint again; a plain LFM2 model is not a diffusion model."
        )
    if HEAD in tensors:
        wanted[HEAD] = wanted[EMBEDDINGS]
    shared_checks.check_tensors(wanted, tensors, name)
    unknown = sorted(key for key in tensors if key not in wanted and not key.endswith(_COMPUTED))
    if unknown:
        raise ModelUnsupported(
            f"{name} has {len(unknown)} unknown tensors: {_first_names(unknown)}. It was changed, or its config.json "
            f"does not describe it."
        )
    types = sorted({tensor.dtype for tensor in tensors.values()} - shared_checks.DTYPES)
    if types:
        raise ModelUnsupported(
            f"{name} has tensors of the type {', '.join(types)}. This engine loads 16 or 32 bits and quantizes them "
            f"itself."
        )


def _intermediate_size(config: Mapping[str, Any], name: str, size: Any, flag: Any) -> int:
    """Return the width of the feed-forward layers. By default it is two thirds of the stated one, rounded up."""
    stated = size("intermediate_size", 12_288) if config.get("block_ff_dim") is None else size("block_ff_dim")
    if not flag("block_auto_adjust_ff_dim", True):
        return int(stated)
    width = int(_positive(config, "block_ffn_dim_multiplier", name, 1.0) * int(2 * stated / 3))
    multiple = size("block_multiple_of", 256)
    return int(multiple * -(-width // multiple))


def _layer_types(config: Mapping[str, Any], name: str, layers: int) -> tuple[str, ...]:
    kinds, attention = config.get("layer_types"), config.get("full_attn_idxs")
    if kinds is None and isinstance(attention, list):
        kinds = ["full_attention" if at in attention else "conv" for at in range(layers)]
    if kinds is None:
        raise ModelBroken(
            f"The config.json of {name} lacks 'layer_types', which say where attention is. Fetch the checkpoint again."
        )
    if not isinstance(kinds, list) or any(kind not in _KINDS for kind in kinds):
        raise _invalid(name, "layer_types", kinds)
    if len(kinds) != layers:
        raise _contradiction(name, f"it lists {len(kinds)} layer types for {layers} layers")
    return tuple(kinds)


def _rope_theta(config: Mapping[str, Any], name: str) -> float:
    """Return the base of the rotary frequencies, which newer versions of transformers store in ``rope_parameters``."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise _invalid(name, "rope_parameters", rope)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ModelUnsupported(f"{name} has rotary embeddings of the type {kind!r}; this engine has only the default.")
    return _positive(rope, "rope_theta", name, _positive(config, "rope_theta", name, 1_000_000.0))


def _positive(table: Mapping[str, Any], key: str, name: str, default: float) -> float:
    value = table.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise _invalid(name, key, value)
    return float(value)


def _invalid(name: str, key: str, value: Any) -> ModelBroken:
    problem = "lacks" if value is None else f"has the invalid value {value!r} for"
    return ModelBroken(f"The config.json of {name} {problem} {key!r}. Fetch the checkpoint again.")


def _contradiction(name: str, problem: str) -> ModelBroken:
    return ModelBroken(f"The config.json of {name} contradicts itself: {problem}. Fetch the checkpoint again.")


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
