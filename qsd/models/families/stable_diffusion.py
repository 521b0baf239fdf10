"""Stable Diffusion 1.x and 2.x: a UNet with one CLIP text model, trained as DDPM and sampled as DDIM."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from qsd.errors import UserError
from qsd.models.families import Conditioning, CostFigures, Family, TextPart, TextTower
from qsd.regular_files import read_regular

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin
    from torch import Tensor

    from qsd.models.process import DiffusionProcess

PREDICTION_TYPES = ("epsilon", "v_prediction")
_BLOCKS = ("act_fn", "block_out_channels", "down_block_types", "layers_per_block", "norm_num_groups", "up_block_types")
_SETTINGS = {
    "unet": (*_BLOCKS, "attention_head_dim", "cross_attention_dim", "flip_sin_to_cos", "freq_shift", "in_channels"),
    "vae": (*_BLOCKS, "latent_channels"),
    "scheduler": ("beta_end", "beta_schedule", "beta_start", "num_train_timesteps"),
}
_TEXT_SETTINGS = (
    "hidden_act",
    "hidden_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)


class StableDiffusion(Family):
    """The first family of latent diffusion; Stable Diffusion XL shares its network's class, process and sampler."""

    pipeline: ClassVar[str] = "StableDiffusionPipeline"
    network: ClassVar[str] = "unet"
    texts: ClassVar[tuple[TextPart, ...]] = (TextPart("tokenizer", "text_encoder", "CLIPTokenizer", "CLIPTextModel"),)
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    own_sampler: ClassVar[str | None] = "ddim"
    samplers: ClassVar[tuple[str, ...]] = ("euler", "dpmpp_2m", "dpmpp_2m_karras")
    cost: ClassVar[CostFigures] = CostFigures(
        parameters=860_000_000,
        caption_numbers=77 * 768,
        latent_channels=4,
        pixels_per_latent=8,
        # Measured per parameter and latent: 0.23 for SD 1.5 at 512 px, 0.14 for SDXL at 1024 px.
        flop_per_parameter=0.2,
        pixels_per_position=8,
        encoder_passes=1.5,
        assumed_from=0.0,
    )

    def required_settings(self, folder: str) -> tuple[str, ...]:
        """What the published models state."""
        return _TEXT_SETTINGS if folder.startswith("text_encoder") else _SETTINGS.get(folder, ())

    def network_class(self) -> type[ModelMixin]:
        """diffusers' UNet, for text as for text and sizes."""
        from diffusers import UNet2DConditionModel

        return cast("type[ModelMixin]", UNet2DConditionModel)

    def load_process(self, path: str, resolution: int | None = None) -> DiffusionProcess:
        """The DDPM whose noise schedule the folder ``scheduler`` has, whatever sampler it names.

        Raises:
            UserError: a schedule over continuous noise levels, or a prediction type other than ``PREDICTION_TYPES``.
        """
        from diffusers import DDPMScheduler

        from qsd.models.process import DdpmProcess
        from qsd.models.source import load_part

        config = self._schedule_config(path)
        schedule = load_part(DDPMScheduler.from_pretrained, path, subfolder="scheduler")
        # The same rule as in diffusers' DDIM sampler, whose default is to end at clean latents.
        ends_clean = config.get("set_alpha_to_one", True)
        return DdpmProcess(schedule, 1.0 if ends_clean else float(schedule.alphas_cumprod[0]))

    def last_step_brings_noise(self, scheduler_config: Mapping[str, Any], steps: int) -> bool:
        """DDIM's last step brings noise unless it ends at clean latents, or where it begins (at timestep 0).

        The settings' defaults are those of diffusers' DDIM sampler, as in ``load_process``.
        """
        count = int(scheduler_config.get("num_train_timesteps", 1000))
        spacing = scheduler_config.get("timestep_spacing", "leading")
        begins = {"leading": int(scheduler_config.get("steps_offset", 0)), "trailing": round(count / steps) - 1}
        last = begins.get(spacing, 0)
        if last >= count // steps:  # with so many steps the last one ends at a timestep of the schedule
            return True
        return last > 0 and not scheduler_config.get("set_alpha_to_one", True)

    def predict(
        self, network: Any, noisy: Tensor, times: Tensor, conditioning: Conditioning, pixels_per_latent: int
    ) -> Tensor:
        """The UNet's output; times are timesteps [B] int64."""
        hidden = conditioning["hidden_states"]
        added = self.added_conditioning(noisy, conditioning, pixels_per_latent)
        output = network(noisy, times, encoder_hidden_states=hidden, added_cond_kwargs=added, return_dict=False)
        return cast("Tensor", output[0])

    def added_conditioning(
        self, noisy: Tensor, conditioning: Conditioning, pixels_per_latent: int
    ) -> dict[str, Tensor] | None:
        """Further inputs of the UNet beside the captions' tokens: none."""
        return None

    def encode_captions(self, towers: Sequence[TextTower], captions: Sequence[str]) -> Conditioning:
        """``hidden_states`` [B, tokens, width]: the text model's last layer after its final norm."""
        (tower,) = towers
        # SD 2.x as published sets no mask; a model that does is encoded as its pipeline would.
        masked = getattr(tower.model.config, "use_attention_mask", False)
        return {"hidden_states": clip_output(tower, captions, masked)[0]}

    def caption_numbers(self, folder: Path) -> int:
        """Tokens times width of the text models in a folder, with the pooled output of those after the first."""
        numbers = 0
        try:
            for number, text in enumerate(self.texts):
                config = json.loads(read_regular(folder / text.encoder / "config.json"))
                numbers += int(config["max_position_embeddings"] * config["hidden_size"])
                numbers += int(config["projection_dim"]) if number else 0
        except (OSError, ValueError, KeyError, TypeError):
            numbers = 0
        return numbers or self.cost.caption_numbers

    def original_names(self, layers: Sequence[str], network_config: Mapping[str, Any]) -> dict[str, str]:
        """Names as in ``input_blocks.4.1.…``, which kohya's programs use for SDXL."""
        from qsd.adapters.block_names import original_names

        count = network_config.get("layers_per_block")
        return original_names(layers, count) if isinstance(count, int) else {}

    def make_pipeline(self, path: str, index: Mapping[str, Any], parts: Mapping[str, Any]) -> Any:
        """diffusers' pipeline with DDIM on the model's own noise schedule."""
        import diffusers

        options = self.pipeline_options(index)
        made: Any = getattr(diffusers, self.pipeline)(
            **parts, scheduler=self._sampler(path), feature_extractor=None, **options
        )
        return made

    def make_sampler(self, name: str, config: Mapping[str, Any]) -> Any:
        """On the model's own noise schedule."""
        from qsd.models.samplers import noise_sampler

        return noise_sampler(name, config)

    def pipeline_options(self, index: Mapping[str, Any]) -> dict[str, Any]:
        """What this class's constructor takes beside the parts; ``index`` is the content of ``model_index.json``."""
        return {"safety_checker": None, "requires_safety_checker": False}

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
        """The stock pipeline's own loop, without noise between the steps (eta 0)."""
        made = pipeline(
            **self.prompt_arguments(conditioning, negative),
            latents=latents,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            eta=0.0,
            height=resolution,
            width=resolution,
            output_type="latent",
        )
        return cast("Tensor", made.images)

    def prompt_arguments(self, conditioning: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """What the pipeline calls the conditioning."""
        names = {"hidden_states": "prompt_embeds", "pooled": "pooled_prompt_embeds"}
        positive = {names[field]: values for field, values in conditioning.items()}
        return positive | {f"negative_{names[field]}": values for field, values in negative.items()}

    def _sampler(self, path: str) -> Any:
        """DDIM on the model's own noise schedule. Latents are never clipped to [-1, 1]: that is meant for pixels.

        Schedules saved from samplers that know no clipping say nothing about it, and DDIM's own default is to clip.
        """
        from diffusers import DDIMScheduler

        from qsd.models.source import load_part

        self._schedule_config(path)
        return load_part(DDIMScheduler.from_pretrained, path, subfolder="scheduler", clip_sample=False)

    def _schedule_config(self, path: str) -> dict[str, Any]:
        """The settings of the schedule, after a check that a DDPM can be trained and sampled with them."""
        from diffusers import DDPMScheduler

        from qsd.models.source import load_part

        config: dict[str, Any] = dict(load_part(DDPMScheduler.load_config, path, subfolder="scheduler"))
        name, kind = str(config.get("_class_name")), config.get("prediction_type", "epsilon")
        if name.startswith("EDM") or "Flow" in name:
            raise UserError(
                f"model.path {path}: its schedule {name} has no discrete timesteps of a DDPM; not supported"
            )
        if kind not in PREDICTION_TYPES:
            known = ", ".join(PREDICTION_TYPES)
            raise UserError(f"model.path {path}: prediction type {kind!r} is not supported; known: {known}")
        return config


def clip_output(tower: TextTower, captions: Sequence[str], masked: bool = False, **options: Any) -> Any:
    """A CLIP text model's output for B captions, padded and cut to its own number of tokens.

    Args:
        tower: the model with its tokenizer.
        captions: the texts.
        masked: padding is hidden from the model; published models see it.
        options: passed on to the model.
    """
    tokens = tower.tokenizer(
        list(captions),
        padding="max_length",
        max_length=tower.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    device = tower.model.device
    if masked:
        options["attention_mask"] = tokens.attention_mask.to(device)
    return tower.model(tokens.input_ids.to(device), **options)


FAMILY = StableDiffusion()
