"""FLUX.1: a transformer over packed latents and T5's tokens, by flow matching; dev takes its guidance as an input."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from qsd.models.families import Conditioning, CostFigures, Family, TextPart, TextTower
from qsd.models.families.sd3 import (
    CLIP_SETTINGS,
    JOINT_ATTENTION,
    T5_SETTINGS,
    VAE_SETTINGS,
    patched_shape,
    t5_output,
    t5_tokens,
)
from qsd.models.families.stable_diffusion import clip_output
from qsd.regular_files import read_regular

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin
    from torch import Tensor

    from qsd.models.process import DiffusionProcess

T5_TOKENS = 512
"""Tokens of a caption for T5, padding included: the stock pipeline's own number. The network attends to the padding.
Less where the T5 tokenizer states less, as for SD3."""
GUIDANCE = 3.5
"""The guidance that FLUX.1-dev takes: the stock pipeline's default. It was distilled into the network, whose velocity
depends on it; here it is the same for the model in training, for the reference and in sampling."""
_TIME_SCALE = 1000
_SETTINGS = {
    "transformer": (
        "attention_head_dim",
        "guidance_embeds",
        "in_channels",
        "joint_attention_dim",
        "num_attention_heads",
        "num_layers",
        "num_single_layers",
        "pooled_projection_dim",
    ),
    "vae": VAE_SETTINGS,
    "scheduler": ("num_train_timesteps", "shift", "use_dynamic_shifting"),
    "text_encoder": CLIP_SETTINGS,
    "text_encoder_2": T5_SETTINGS,
}


class Flux(Family):
    """Black Forest Labs 2024. The class loads FLUX.1-dev and FLUX.1-schnell."""

    pipeline: ClassVar[str] = "FluxPipeline"
    network: ClassVar[str] = "transformer"
    texts: ClassVar[tuple[TextPart, ...]] = (
        TextPart("tokenizer", "text_encoder", "CLIPTokenizer", "CLIPTextModel"),
        TextPart("tokenizer_2", "text_encoder_2", "T5TokenizerFast", "T5EncoderModel"),
    )
    lora_targets: ClassVar[tuple[str, ...]] = JOINT_ATTENTION
    own_sampler: ClassVar[str | None] = "euler"
    samplers: ClassVar[tuple[str, ...]] = ("dpmpp_2m",)
    cost: ClassVar[CostFigures] = CostFigures(
        parameters=11_901_408_320,
        caption_numbers=T5_TOKENS * 4096 + 768,
        latent_channels=16,
        pixels_per_latent=8,
        # Counted with the text's tokens: 1.76 at 512 px, 1.53 at 1024 px.
        flop_per_parameter=1.7,
        pixels_per_position=16,
        encoder_passes=0.06,
        published=("black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-schnell"),
    )
    kohya_readers: ClassVar[str] = "programs that read OneTrainer's names (`lora_transformer_…`), such as ComfyUI"

    # ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def required_settings(self, folder: str) -> tuple[str, ...]:
        """What the published models state."""
        return _SETTINGS.get(folder, ())

    # ── The network and its process ──────────────────────────────────────────────────────────────────────────────────

    def network_class(self) -> type[ModelMixin]:
        """diffusers' transformer of FLUX.1."""
        from diffusers import FluxTransformer2DModel

        return cast("type[ModelMixin]", FluxTransformer2DModel)

    def load_process(self, path: str, resolution: int | None = None) -> DiffusionProcess:
        """Flow matching; the sampler's shift grows with the image (dev) or is fixed (schnell), as the folder says.

        Raises:
            UserError: a schedule of another process.
        """
        from qsd.models.flow_process import FlowProcess, load_flow_schedule

        schedule = load_flow_schedule(path, _TIME_SCALE, may_grow=True)
        settings: Any = schedule.config
        mu = None
        if settings.use_dynamic_shifting and resolution is not None:
            mu = self._log_shift(settings, path, resolution)
        return FlowProcess(schedule, mu, even=True)

    def _log_shift(self, settings: Any, path: str, resolution: int) -> float:
        """The logarithm of the shift for square images, as the stock pipeline computes it."""
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        from qsd.models.source import load_part

        vae_config = dict(load_part(self.vae_class().load_config, path, subfolder="vae"))
        tokens = math.prod(self.latent_shape(vae_config, resolution)[1:]) // 4
        lengths = settings.base_image_seq_len, settings.max_image_seq_len
        return float(calculate_shift(tokens, *lengths, settings.base_shift, settings.max_shift))

    def predict(
        self, network: Any, noisy: Tensor, times: Tensor, conditioning: Conditioning, pixels_per_latent: int
    ) -> Tensor:
        """The transformer's velocity; times are σ [B]. Latents are packed and unpacked here, and nowhere else."""
        height, width = noisy.shape[-2] // 2, noisy.shape[-1] // 2
        guidance = noisy.new_full((len(noisy),), GUIDANCE) if network.config.guidance_embeds else None
        output = network(
            hidden_states=packed(noisy),
            # The stock pipeline divides its timestep, 1000 σ, by 1000, which may change the last bit.
            timestep=times * _TIME_SCALE / _TIME_SCALE,
            guidance=guidance,
            pooled_projections=conditioning["pooled"],
            encoder_hidden_states=conditioning["t5"],
            txt_ids=noisy.new_zeros(conditioning["t5"].shape[1], 3),
            img_ids=_image_ids(noisy, height, width),
            return_dict=False,
        )
        return unpacked(output[0], height, width)

    def takes_guidance(self, network_config: Mapping[str, Any]) -> bool:
        """True of dev; schnell takes none."""
        return bool(network_config.get("guidance_embeds"))

    # ── Text ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def encode_captions(self, towers: Sequence[TextTower], captions: Sequence[str]) -> Conditioning:
        """``t5`` [B, T5's tokens, width 2], T5's last layer, and ``pooled`` [B, width], CLIP's pooled output."""
        clip, t5 = towers
        return {"t5": t5_output(t5, captions, T5_TOKENS), "pooled": clip_output(clip, captions).pooler_output}

    def caption_numbers(self, folder: Path) -> int:
        """Of the text models in a folder."""
        try:
            clip, t5 = (json.loads(read_regular(folder / text.encoder / "config.json")) for text in self.texts)
            tokens = t5_tokens(folder / self.texts[1].tokenizer, T5_TOKENS)
            return int(clip["hidden_size"] + tokens * t5["d_model"])
        except (OSError, ValueError, KeyError, TypeError):
            return self.cost.caption_numbers

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

        schedule = load_flow_schedule(path, _TIME_SCALE, may_grow=True)
        made: Any = getattr(diffusers, self.pipeline)(**parts, scheduler=schedule)
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
        """The stock pipeline's own loop.

        ``guidance_scale`` is of classifier-free guidance, the pipeline's ``true_cfg_scale``, away from the encoded
        empty caption; dev is usually drawn without (1). What dev gets is ``GUIDANCE``, as in training.
        """
        away = {}
        if guidance_scale > 1:
            away = {"negative_prompt_embeds": negative["t5"], "negative_pooled_prompt_embeds": negative["pooled"]}
        made = pipeline(
            prompt_embeds=conditioning["t5"],
            pooled_prompt_embeds=conditioning["pooled"],
            **away,
            true_cfg_scale=guidance_scale,
            guidance_scale=GUIDANCE,
            latents=packed(latents),
            num_inference_steps=steps,
            height=resolution,
            width=resolution,
            output_type="latent",
        )
        return unpacked(made.images, latents.shape[-2] // 2, latents.shape[-1] // 2)


def packed(latents: Tensor) -> Tensor:
    """Latents [B, C, h, w] as tokens [B, h/2 · w/2, 4 C], each of 2 x 2 of them, row by row."""
    import torch

    return torch.nn.functional.pixel_unshuffle(latents, 2).flatten(2).mT.contiguous()


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of ``packed``: [B, height · width, 4 C] -> [B, C, 2 height, 2 width]."""
    import torch

    return torch.nn.functional.pixel_shuffle(tokens.mT.reshape(len(tokens), -1, height, width), 2)


def _image_ids(noisy: Tensor, height: int, width: int) -> Tensor:
    """Where each token is, for the rotary embedding: (0, row, column), [height · width, 3]."""
    import torch

    rows, columns = (torch.arange(count, device=noisy.device, dtype=noisy.dtype) for count in (height, width))
    ids = torch.stack(
        [torch.zeros_like(rows)[:, None] * columns, rows[:, None].expand(-1, width), columns.expand(height, -1)], dim=-1
    )
    return ids.flatten(0, 1)


FAMILY = Flux()
