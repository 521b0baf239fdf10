"""The experiment: everything held fixed, as typed sections. One comment of why per field.

Paths are relative to the project's root. Percentages are 0-100. Every field is made by ``meaning``, ``execution`` or
``location`` (``qsd.config.fields``): only the first and the content behind the last enter the keys of stages.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qsd.config.fields import REQUIRED, execution, location, meaning


@dataclass
class DataConfig:
    """The preference pairs."""

    reader: str = meaning("pickapic", "layout of the data set", registry="qsd.data.readers")
    path: str = location(REQUIRED, "file or folder with the pairs")
    labels: str = meaning(
        "human",
        "who said which image is better; tables and model cards tell when it was a program",
        choices=("human", "simulated"),
    )
    labelled_by: list[str] | None = execution(
        None, "reward models that made the labels; tables mark what they judge", registry="qsd.rewards.scorers"
    )
    max_rows: int | None = meaning(None, "only the first n rows of the source; null means all", least=1)
    flip_fraction: float = meaning(0.0, "percent of the labels flipped on purpose, after scoring", least=0, most=100)
    relabel: str = meaning(
        "none", "scores: the image that reward.model scores higher wins; ties stay", choices=("none", "scores")
    )
    max_rejected_fraction: float = meaning(0.02, "damaged rows above this share fail the stage", least=0, most=1)


@dataclass
class ModelConfig:
    """The base text-to-image model."""

    path: str = location(REQUIRED, "diffusers folder, or hub name with @revision")
    resolution: int = meaning(512, "pixels per side in training and generation", least=8)
    vae_precision: str = meaning("fp32", "of the VAE; never fp16, in which SDXL's overflows", choices=("fp32", "bf16"))


@dataclass
class RewardConfig:
    """The reward model that ranks pairs."""

    model: str = meaning(REQUIRED, "scores the pairs", registry="qsd.rewards.scorers")
    members: list[str] | None = meaning(None, "reward models of the ensemble", registry="qsd.rewards.scorers")
    combine: str = meaning(
        "z_score",
        "what an ensemble averages, relative to the data set; or the share of members that favour an image of a pair",
        choices=("z_score", "percentile_rank", "majority_vote"),
    )
    precision: str = meaning(
        "fp32",
        "of the forward pass that scores pairs; other than fp32 it is compared with fp32 on a sample",
        choices=("fp32", "tf32", "bf16"),
    )
    weights: str = execution(REQUIRED, "folder with one folder per reward model; revisions enter keys by digest")
    batch_size: int = execution(256, "images per forward pass", least=1)
    workers: int = execution(2, "threads that decode and resize images ahead of the model", least=1)
    shards: int = execution(1, "processes or SLURM jobs that share the pass over the images of pairs", least=1)


@dataclass
class QualityConfig:
    """From scores to Q."""

    metric: str = meaning("product", "formula of Q", registry="qsd.quality.metrics")
    normalization: str = meaning("raw", "of the scores before the formula", registry="qsd.quality.normalizations")


@dataclass
class SelectionConfig:
    """From Q to a training subset."""

    strategy: str = meaning("top_k", "how Q is used", registry="qsd.selection.strategies")
    fraction: float = meaning(
        5.33, "percent of the pairs to keep; 5.33 is the headline of the QSD paper", above=0, most=100
    )
    count: int | None = meaning(None, "pairs to keep; when it is given, fraction is not read", least=1)
    threshold: float = meaning(0.0, "least Q to keep (strategy threshold)")
    temperature: float = meaning(1.0, "of sampling or weighting by standardised Q; 0 tends to the best alone", above=0)
    replacement: bool = meaning(False, "weighted sampling may draw a pair again; its weight is how often")
    prompt_clusters: int | None = meaning(
        None, "strata are so many clusters of captions; null: the styles that captions name", least=2, most=1000
    )
    curriculum_start: float = meaning(0.2, "share of the kept pairs that a curriculum begins with", above=0, most=1)
    curriculum_full: float = meaning(0.5, "share of the training after which it has all of them", above=0, most=1)


@dataclass
class EncodeConfig:
    """Latents and text embeddings, computed once."""

    scope: str = meaning(
        "selection",
        "encode the selected pairs, or the whole data set once for all cells",
        choices=("selection", "dataset"),
    )
    batch_size: int = execution(64, "images per forward pass of the VAE", least=1)


@dataclass
class LossConfig:
    """The preference loss."""

    name: str = meaning("dpo", "the loss", registry="qsd.losses")
    beta: float = meaning(5000.0, "-log sigmoid(beta/2 * d), the convention of the Diffusion-DPO code", above=0)
    label_noise: float = meaning(0.1, "share of flipped labels that cdpo and rdpo assume", least=0, below=0.5)
    ipo_tau: float = meaning(100.0, "ipo pulls d to 1 / (2 tau); 100 is the public default", above=0)
    ratio_weight: float = meaning(0.1, "of the preference term beside the winner's error (orpo, mapo)", above=0)
    mapo_scale: float = meaning(1000.0, "of the difference of odds; the number of timesteps in mapo's code", above=0)
    mapo_sharpness: float = meaning(0.5, "s in f(e) = s e / (exp(s e) - 1); snr_value in mapo's code", above=0)
    slic_margin: float = meaning(1.0, "delta of slic_rank", above=0)
    slic_weight: float = meaning(1.0, "lambda of slic_rank: of the winner's error beside the rank term", least=0)
    kto_desirable: float = meaning(1.0, "weight of winners in kto", above=0)
    kto_undesirable: float = meaning(1.0, "weight of losers in kto", above=0)
    alpha: float = meaning(0.9999, "of alpha_dpo's divergence, before its schedule", above=0, below=1)
    alpha_schedule: str = meaning(
        "step_mean", "alpha times the mean sigmoid over the step, or alpha alone", choices=("step_mean", "constant")
    )
    adaptive_decays: list[float] = meaning(
        [0.9999, 0.5], "of adaptive_dpo's annotators beside the current model", least=0, below=1
    )
    adaptive_normalizer: str = meaning(
        "step",
        "scale of d in adaptive_dpo's metric: over the step, or as published over the micro-batch, or none",
        choices=("step", "micro_batch", "none"),
    )
    adaptive_group: int = meaning(
        16, "pairs of the published micro-batch, whose size acts as a part of rho; micro_batch demands it", least=1
    )
    adaptive_rho: float = meaning(15.0, "sharpness of adaptive_dpo's annotators; 1e4 fits without normalizer", above=0)
    adaptive_weight: str = meaning(
        "linear", "how the metric lowers a pair's weight", choices=("linear", "quadratic", "sqrt", "exponential")
    )
    adaptive_slope: float = meaning(10.0, "c of adaptive_dpo's weight; 0 with linear weighs all alike", least=0)
    adaptive_intercept: float = meaning(1.0, "b of adaptive_dpo's weight", above=0)
    adaptive_margin: str = meaning(
        "quadratic",
        "quadratic and linear as published, next to nothing at their scale; scaled acts; or none",
        choices=("quadratic", "linear", "scaled", "none"),
    )
    adaptive_margin_weight: float = meaning(1.0, "k of the scaled margin, per unit of the metric squared", least=0)


EQUAL_STEP_RANK = 16
"""The rank at which ``lora.scaling`` makes no difference."""


@dataclass
class LoraConfig:
    """The adapter."""

    rank: int = meaning(8, "inner dimension of every adapted layer", least=1, most=1024)
    alpha: float | None = meaning(None, "scale is alpha / rank; null means alpha = rank", above=0)
    scaling: str = meaning(
        "plain",
        "equal_step multiplies alpha by sqrt(rank / 16): a step moves the weights equally far at every rank",
        choices=("plain", "equal_step"),
    )
    targets: list[str] = meaning(["to_q", "to_k", "to_v", "to_out.0"], "name endings of the adapted layers")


@dataclass
class TrainingConfig:
    """The recipe of fine-tuning."""

    steps: int = meaning(REQUIRED, "optimiser steps (budget steps)", least=1)
    budget: str = meaning(
        "steps", "equal for all cells: the steps, or the passes over their pairs", choices=("steps", "epochs")
    )
    epochs: float = meaning(1.0, "passes over the selected pairs (budget epochs)", above=0)
    pairs_per_step: int = meaning(REQUIRED, "pairs that one optimiser step averages over", least=1)
    learning_rate: float = meaning(REQUIRED, "peak rate of AdamW", above=0)
    schedule: str = meaning("constant", "after the warm-up", choices=("constant", "cosine"))
    warmup_steps: int = meaning(0, "steps of linear warm-up", least=0)
    weight_decay: float = meaning(0.01, "of AdamW on the adapter", least=0)
    max_grad_norm: float = meaning(1.0, "gradient clipping by global norm", above=0)
    caption_dropout: float = meaning(0.0, "share of pairs trained with the empty caption", least=0, most=1)
    flip: bool = meaning(False, "random horizontal flip, the same for both images of a pair")
    precision: str = meaning(
        "fp32", "of the forward pass; adapter and errors are always fp32", choices=("fp32", "bf16")
    )
    ema: float | None = meaning(
        None, "decay of the moving average of the adapter that is saved; null saves the last step's", above=0, below=1
    )
    validation_pairs: int = meaning(0, "pairs that were not selected, on which accuracy is measured; 0: none", least=0)
    validation_steps: int = meaning(50, "steps between two validations; there is one after the last step", least=1)
    micro_batch: int = execution(16, "pairs per forward pass; the rest is accumulated", least=1)
    processes: int | None = execution(
        None, "that share each step, on a GPU each; null: one, or one per GPU that a cluster profile gives", least=1
    )
    reference_errors: str = execution(
        "shared", "computed once for all cells of a store, or online in every step", choices=("shared", "online")
    )
    attention: str = execution(
        "auto",
        "kernels; auto is math on a CPU, where its backward is the fastest, and PyTorch's choice elsewhere",
        choices=("auto", "math", "flash", "efficient", "cudnn"),
    )
    channels_last: bool = execution(False, "memory format of the UNet; faster convolutions on most hardware")
    compile: bool = execution(False, "torch.compile the UNet: minutes at the start, then fewer and larger kernels")
    checkpoint_steps: int = execution(50, "steps between checkpoints", least=1)
    checkpoint_seconds: float = execution(60.0, "and at most this long between them", above=0)


@dataclass
class GenerationConfig:
    """Images of a cell for evaluation."""

    steps: int = meaning(50, "denoising steps", least=1)
    guidance_scale: float = meaning(7.5, "classifier-free guidance; 1 switches it off", least=1)
    images_per_prompt: int = meaning(1, "initial noises per prompt", least=1)
    seed: int = meaning(0, "of the initial noise, the same for every cell", least=0)
    precision: str = meaning("fp32", "of the UNet; the latents are always fp32", choices=("fp32", "bf16"))
    batch_size: int = execution(64, "images per pipeline call", least=1)


@dataclass
class EvaluationConfig:
    """Prompts and scorers that compare cells."""

    prompts: str = location(REQUIRED, "CSV with prompt_id, caption, split")
    splits: list[str] = meaning(["evaluation", "seen"], "which prompts of the file")
    prompts_per_split: int | None = meaning(None, "the first n prompts of each split; null means all", least=1)
    scorers: list[str] = meaning(REQUIRED, "score the generated images", registry="qsd.rewards.scorers")
    batch_size: int = execution(256, "images per forward pass", least=1)


@dataclass
class TrackingConfig:
    """Weights & Biases, a projection of the files."""

    wandb: str = execution("offline", "offline, online or disabled", choices=("offline", "online", "disabled"))
    project: str = execution("qsd-ablations", "W&B project")
    entity: str | None = execution(None, "W&B user or team; null is the account's default")


@dataclass
class ExperimentConfig:
    """One cell's full configuration."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = meaning(0, "of training: adapter initialisation, data order, draws, stochastic selection", least=0)
    adapter: str = meaning("trained", "none is the untouched base model", choices=("trained", "none"))
    device: str = execution("auto", "auto, cpu, cuda or cuda:N")
    threads: int = execution(1, "CPU threads per process; fixed, so that results do not depend on the machine", least=1)
