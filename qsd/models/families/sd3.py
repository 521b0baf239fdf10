"""Stable Diffusion 3 and 3.5: a transformer over text and image, trained by flow matching, with three text models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from qsd.errors import UserError
from qsd.models.families import Conditioning, CostFigures, Family, TextPart, TextTower
from qsd.models.families.stable_diffusion import clip_output
from qsd.regular_files import read_regular

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin
    from torch import Tensor

    from qsd.models.process import DiffusionProcess

T5_TOKENS = 256
"""Tokens of a caption for T5, padding included: the stock pipeline's own number. The network attends to the padding, so
that training, sampling and other programs must have the same. A model whose T5 tokenizer states a smaller
``model_max_length`` has that many; the stock pipeline takes it as ``max_sequence_length``."""
TIME_SCALE = 1000
"""The network takes times of 0 … 1000."""
CLIP_SETTINGS = (
    "hidden_act",
    "hidden_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
T5_SETTINGS = ("d_ff", "d_kv", "d_model", "num_heads", "num_layers", "vocab_size")
VAE_SETTINGS = ("block_out_channels", "latent_channels", "layers_per_block", "scaling_factor", "shift_factor")
JOINT_ATTENTION = (
    "attn.to_q",
    "attn.to_k",
    "attn.to_v",
    "attn.to_out.0",
    "attn.add_q_proj",
    "attn.add_k_proj",
    "attn.add_v_proj",
    "attn.to_add_out",
)
"""Flow-GRPO's targets: the attention of image and text to one another."""
_SETTINGS = {
    "transformer": (
        "attention_head_dim",
        "caption_projection_dim",
        "in_channels",
        "joint_attention_dim",
        "num_attention_heads",
        "num_layers",
        "patch_size",
        "pooled_projection_dim",
        "pos_embed_max_size",
    ),
    "vae": VAE_SETTINGS,
    "scheduler": ("num_train_timesteps", "shift"),
    "text_encoder": (*CLIP_SETTINGS, "projection_dim"),
    "text_encoder_2": (*CLIP_SETTINGS, "projection_dim"),
    "text_encoder_3": T5_SETTINGS,
}


class StableDiffusion3(Family):
    """Esser et al. 2024, arXiv 2403.03206. The class loads SD3-medium and SD3.5, medium and large."""

    pipeline: ClassVar[str] = "StableDiffusion3Pipeline"
    network: ClassVar[str] = "transformer"
    texts: ClassVar[tuple[TextPart, ...]] = (
        TextPart("tokenizer", "text_encoder", "CLIPTokenizer", "CLIPTextModelWithProjection"),
        TextPart("tokenizer_2", "text_encoder_2", "CLIPTokenizer", "CLIPTextModelWithProjection"),
        TextPart("tokenizer_3", "text_encoder_3", "T5TokenizerFast", "T5EncoderModel"),
    )
    # SD3.5-medium's second attention of the image alone (attn2) is not among them.
    lora_targets: ClassVar[tuple[str, ...]] = JOINT_ATTENTION
    own_sampler: ClassVar[str | None] = "euler"
    samplers: ClassVar[tuple[str, ...]] = ("dpmpp_2m",)
    cost: ClassVar[CostFigures] = CostFigures(
        parameters=2_243_171_520,
        caption_numbers=77 * 2048 + 2048 + T5_TOKENS * 4096,
        latent_channels=16,
        pixels_per_latent=8,
        # Counted for SD3.5-medium with the text: 1.06 at 512 px, 1.22 at 1024 px. A third of its parameters
        # works once an image, not at every position.
        flop_per_parameter=1.1,
        pixels_per_position=16,
        encoder_passes=0.5,
        published=("stabilityai/stable-diffusion-3",),
    )
    kohya_readers: ClassVar[str] = "programs that read OneTrainer's names (`lora_transformer_…`), such as ComfyUI"

    # ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def required_settings(self, folder: str) -> tuple[str, ...]:
        """What the published models state."""
        return _SETTINGS.get(folder, ())

    def without(self, absent: frozenset[str]) -> Family:
        """T5 may be left out, as in the stock pipeline: zeros take its place. The pipeline cannot do without a CLIP."""
        return _WITHOUT_T5 if absent == {"text_encoder_3"} else self

    # ── The network and its process ──────────────────────────────────────────────────────────────────────────────────

    def network_class(self) -> type[ModelMixin]:
        """diffusers' transformer of SD3 and SD3.5."""
        from diffusers import SD3Transformer2DModel

        return cast("type[ModelMixin]", SD3Transformer2DModel)

    def load_process(self, path: str, resolution: int | None = None) -> DiffusionProcess:
        """Flow matching, sampled with the model's own fixed shift (3 for the published models).

        Raises:
            UserError: a schedule of another process, or with a shift that grows with the image.
        """
        from qsd.models.flow_process import FlowProcess, load_flow_schedule

        return FlowProcess(load_flow_schedule(path, TIME_SCALE))

    def predict(
        self, network: Any, noisy: Tensor, times: Tensor, conditioning: Conditioning, pixels_per_latent: int
    ) -> Tensor:
        """The transformer's velocity; times are σ [B], which it takes as 1000 σ."""
        output = network(
            hidden_states=noisy,
            timestep=times * TIME_SCALE,
            encoder_hidden_states=joint_text(conditioning, network.config.joint_attention_dim),
            pooled_projections=conditioning["pooled"],
            return_dict=False,
        )
        return cast("Tensor", output[0])

    # ── Text ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def encode_captions(self, towers: Sequence[TextTower], captions: Sequence[str]) -> Conditioning:
        """``clip`` [B, tokens, width + width 2], ``pooled`` [B, projection + projection 2], ``t5`` [B, tokens, width].

        The last but one layers of both CLIP models side by side, their projected outputs, and T5's last layer. They are
        stored apart, without the zeros that ``joint_text`` puts between them; without T5 there is no ``t5``.
        """
        import torch

        clips = [clip_output(tower, captions, output_hidden_states=True) for tower in towers[:2]]
        conditioning = {
            "clip": torch.cat([output.hidden_states[-2] for output in clips], dim=-1),
            "pooled": torch.cat([output[0] for output in clips], dim=-1),
        }
        for tower in towers[2:]:
            conditioning["t5"] = t5_output(tower, captions, T5_TOKENS)
        return conditioning

    def caption_numbers(self, folder: Path) -> int:
        """Of the text models in a folder."""
        numbers = 0
        try:
            for text in self.texts:
                config = json.loads(read_regular(folder / text.encoder / "config.json"))
                if "d_model" in config:
                    numbers += t5_tokens(folder / text.tokenizer, T5_TOKENS) * int(config["d_model"])
                else:
                    numbers += int(config["max_position_embeddings"] * config["hidden_size"] + config["projection_dim"])
        except (OSError, ValueError, KeyError, TypeError):
            return self.cost.caption_numbers
        return numbers

    # ── The VAE ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def latent_shape(self, vae_config: Mapping[str, Any], resolution: int) -> tuple[int, int, int]:
        """(C, h, w) of the latents of a square image.

        Raises:
            UserError: the resolution is no multiple of the VAE's scale factor times the side of a patch.
        """
        return patched_shape(super().latent_shape(vae_config, resolution), self.pixels_per_latent(vae_config))

    # ── The pipeline ─────────────────────────────────────────────────────────────────────────────────────────────────

    def make_pipeline(self, path: str, index: Mapping[str, Any], parts: Mapping[str, Any]) -> Any:
        """diffusers' pipeline with its Euler sampler and the model's own shift."""
        import diffusers

        from qsd.models.flow_process import load_flow_schedule

        absent = {"text_encoder_3": None, "tokenizer_3": None}
        made: Any = getattr(diffusers, self.pipeline)(
            **{**absent, **parts}, scheduler=load_flow_schedule(path, TIME_SCALE)
        )
        return made

    def make_sampler(self, name: str, config: Mapping[str, Any]) -> Any:
        """With the model's own shift."""
        from qsd.models.samplers import flow_sampler

        return flow_sampler(name, config)

    def sample(
        self,
        pipeline: Any,
        latents: Tensor,
        conditioning: Conditioning,
        negative: Conditioning,
        steps: int,
        guidance_scale: float,
        resolution: int,
    ) -> Tensor:
        """The stock pipeline's own loop. Guidance leads away from the encoded empty caption, as there."""
        width = pipeline.transformer.config.joint_attention_dim
        made = pipeline(
            prompt_embeds=joint_text(conditioning, width),
            pooled_prompt_embeds=conditioning["pooled"],
            negative_prompt_embeds=joint_text(negative, width),
            negative_pooled_prompt_embeds=negative["pooled"],
            latents=latents,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            height=resolution,
            width=resolution,
            output_type="latent",
        )
        return cast("Tensor", made.images)


class _WithoutT5(StableDiffusion3):
    """A model whose ``model_index.json`` says ``"text_encoder_3": [null, null]``."""

    texts: ClassVar[tuple[TextPart, ...]] = StableDiffusion3.texts[:2]


def joint_text(conditioning: Conditioning, width: int) -> Tensor:
    """The tokens that the transformer attends to, [B, CLIP's tokens + 256, width].

    CLIP's tokens are padded with zeros to the width of T5's, which follow them; zeros stand for T5 where a model has
    none, as in the stock pipeline.

    Args:
        conditioning: ``clip``, and ``t5`` if the model has it.
        width: ``joint_attention_dim`` of the network.
    """
    import torch

    clip = conditioning["clip"]
    clip = torch.nn.functional.pad(clip, (0, width - clip.shape[-1]))
    t5 = conditioning.get("t5")
    if t5 is None:
        t5 = clip.new_zeros(len(clip), T5_TOKENS, width)
    return torch.cat([clip, t5], dim=1)


def t5_output(tower: TextTower, captions: Sequence[str], most: int) -> Tensor:
    """T5's last layer for B captions, [B, tokens, width]. T5 sees the padding.

    Args:
        tower: T5 with its tokenizer.
        captions: padded and cut to the tokenizer's own ``model_max_length``, but to no more than ``most`` tokens.
        most: what the stock pipeline takes.
    """
    ids = tower.tokenizer(
        list(captions),
        padding="max_length",
        max_length=min(most, tower.tokenizer.model_max_length),
        truncation=True,
        add_special_tokens=True,
        return_tensors="pt",
    ).input_ids
    return cast("Tensor", tower.model(ids.to(tower.model.device))[0])


def t5_tokens(folder: Path, most: int) -> int:
    """How many tokens a caption has for the T5 tokenizer in a folder, but no more than ``most``."""
    config = json.loads(read_regular(folder / "tokenizer_config.json"))
    return min(most, int(config.get("model_max_length") or most))


def patched_shape(shape: tuple[int, int, int], pixels_per_latent: int) -> tuple[int, int, int]:
    """A shape (C, h, w) of latents, after a check that patches of 2 x 2 cover it.

    Raises:
        UserError: they do not.
    """
    if shape[1] % 2:
        resolution, patch = shape[1] * pixels_per_latent, 2 * pixels_per_latent
        raise UserError(f"model.resolution {resolution} is not a multiple of {patch}, a patch of the network")
    return shape


_WITHOUT_T5 = _WithoutT5()
FAMILY = StableDiffusion3()
