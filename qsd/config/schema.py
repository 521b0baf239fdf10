"""The experiment: everything held fixed, as typed sections. One comment of why per field.

Paths are relative to the project's root. Percentages are 0-100. Every field is made by ``meaning``, ``execution`` or
``location`` (``qsd.config.fields``): only the first and the content behind the last enter the keys of stages. The
settings of a loss or of a selection strategy stand in the member's own file (``qsd.config.members``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from qsd.config.fields import MOST_SEED, REQUIRED, execution, location, meaning
from qsd.config.members import MemberSection


@dataclass
class ColumnsConfig:
    """What the columns of a table of one's own are called (reader ``table``)."""

    caption: str | None = meaning(None, "column of the captions; null: caption or prompt")
    winner: str | None = meaning(None, "column of the preferred images; null: winner or chosen")
    loser: str | None = meaning(None, "column of the other images; null: loser or rejected")
    annotator: str | None = meaning(None, "column of who chose; null: annotator, if there is one")


@dataclass
class DataConfig:
    """The preference pairs."""

    reader: str = meaning("pickapic", "layout of the data set", registry="qsd.data.readers")
    path: str = location("", "file or folder with the pairs", needed="pairs")
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    labels: str = meaning(
        "human",
        "who said which image is better; tables and model cards tell when it was a program",
        choices=("human", "simulated"),
    )
    labelled_by: list[str] | None = execution(
        None, "reward models that made the labels; tables mark what they judge", registry="qsd.rewards.scorers"
    )
    only: str | None = meaning(None, "column of true and false of the list: only rows where it is true; null means all")
    judge_agrees: str | None = meaning(
        None, "column of true and false of the list: whether a judge agrees with the label; shown beside detected flips"
    )
    max_rows: int | None = meaning(None, "only the first n rows of the source; null means all", least=1)
    accept_missing_shards: bool = meaning(False, "read a folder although some of its split's shards are missing")
    votes: str = meaning(
        "majority",
        "of several judgements of the same images: what the majority chose, a draw is a tie; both opinions, weighed by "
        "their shares of the votes (soft) or by their numbers (each); or both, once each (distinct)",
        choices=("majority", "soft", "each", "distinct"),
    )
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
    workers: int = execution(2, "threads that decode and resize images ahead of the model", least=1, most=1024)
    shards: int = execution(
        1, "processes or SLURM jobs that share the pass over the images of pairs", least=1, most=10_000
    )


@dataclass
class QualityConfig:
    """From scores to Q."""

    metric: str = meaning("product", "formula of Q", registry="qsd.quality.metrics")
    normalization: str = meaning("raw", "of the scores before the formula", registry="qsd.quality.normalizations")


@dataclass(init=False)
class SelectionConfig(MemberSection):
    """From Q to a training subset. Each strategy declares its settings in its own file."""

    members: ClassVar[str] = "qsd.selection.strategies"

    strategy: str = meaning("top_k", "how Q is used", registry="qsd.selection.strategies")


@dataclass
class EncodeConfig:
    """Latents and text embeddings, computed once."""

    scope: str = meaning(
        "selection",
        "encode the selected pairs, or the whole data set once for all cells",
        choices=("selection", "dataset"),
    )
    batch_size: int = execution(64, "images per forward pass of the VAE", least=1)


@dataclass(init=False)
class LossConfig(MemberSection):
    """The preference loss. Each loss declares its settings in its own file."""

    members: ClassVar[str] = "qsd.losses"

    name: str = meaning("dpo", "the loss", registry="qsd.losses")
    beta_schedule: str = meaning(
        "constant",
        "as given, or automatic: beta/2 times the running mean of |d| is log 4; of losses with beta and reference",
        choices=("constant", "automatic"),
    )
    beta_decay: float = meaning(0.99, "of the running mean that an automatic beta follows, per step", least=0, below=1)
    beta_range: float = meaning(10.0, "an automatic beta stays within this factor of loss.beta", least=1)


SCHEDULES = ("constant", "cosine", "linear")
"""Of a learning rate after its warm-up."""

USUAL_MICRO_BATCH = 16
"""Pairs per forward pass where memory does not decide."""

EQUAL_STEP_RANK = 16
"""The rank at which ``lora.scaling`` makes no difference."""


@dataclass(init=False)
class MethodConfig(MemberSection):
    """How the adapter is trained. Each method declares its settings in its own file."""

    members: ClassVar[str] = "qsd.training.methods"

    name: str = meaning(
        "pairs", "off-policy on pairs, or on-policy on prompts and a reward", registry="qsd.training.methods"
    )


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
    rslora: bool = meaning(False, "scale is alpha / sqrt(rank) (rank-stabilised LoRA)")
    dora: bool = meaning(False, "each adapted weight also gets a trained length of its own for every row (DoRA)")
    dropout: float = meaning(
        0.0, "share of the inputs of every A that a training pass leaves out, drawn for each pair", least=0, below=1
    )
    targets: list[str] = meaning(["to_q", "to_k", "to_v", "to_out.0"], "name endings of the adapted layers")


@dataclass
class TrainingConfig:
    """The recipe of fine-tuning."""

    steps: int = meaning(REQUIRED, "optimiser steps (budget steps)", least=1, most=100_000_000)
    budget: str = meaning(
        "steps", "equal for all cells: the steps, or the passes over their pairs", choices=("steps", "epochs")
    )
    epochs: float = meaning(1.0, "passes over the selected pairs (budget epochs)", above=0)
    pairs_per_step: int = meaning(0, "pairs that one optimiser step averages over", needed="pairs", least=1)
    learning_rate: float = meaning(REQUIRED, "peak rate of AdamW", above=0)
    schedule: str = meaning("constant", "after the warm-up; the others end at zero", choices=SCHEDULES)
    warmup_steps: int = meaning(0, "steps of linear warm-up", least=0)
    weight_decay: float = meaning(0.01, "of AdamW on the adapter", least=0)
    max_grad_norm: float = meaning(1.0, "gradient clipping by global norm", above=0)
    caption_dropout: float = meaning(0.0, "share of pairs trained with the empty caption", least=0, most=1)
    flip: bool = meaning(False, "random horizontal flip, the same for both images of a pair")
    noise_law: str = meaning(
        "uniform",
        "how often each amount of noise is drawn, from clean (0) to pure noise (1)",
        choices=("uniform", "logit_normal"),
    )
    noise_shift: float = meaning(1.0, "s of s u / (1 + (s - 1) u), applied to that: above 1 more noise", above=0)
    precision: str = meaning(
        "fp32",
        "of the forward pass; adapter and errors are always fp32. bf16 has its norms in fp32 on a GPU, bf16_norms not",
        choices=("fp32", "bf16", "bf16_norms"),
    )
    ema: float | None = meaning(
        None, "decay of the moving average of the adapter that is saved; null saves the last step's", above=0, below=1
    )
    validation_pairs: int = meaning(0, "pairs that were not selected, on which accuracy is measured; 0: none", least=0)
    validation_steps: int = meaning(50, "steps between two validations; there is one after the last step", least=1)
    held_out_fold: int | None = meaning(
        None,
        "fifth of the pairs that is not trained on, and that flipped labels are searched in; null: train on all",
        least=0,
        most=4,
    )
    detection_draws: int = meaning(
        1, "of each pair that flipped labels are searched in, draw k in part k of the timesteps", least=1
    )
    micro_batch: int = execution(
        USUAL_MICRO_BATCH,
        "pairs per forward pass; the rest is accumulated. 0: as many as fit into a GPU, on a CPU 16",
        least=0,
    )
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
    channels_last: bool = execution(False, "memory format of the denoiser; faster convolutions on most hardware")
    compile: bool = execution(False, "torch.compile the denoiser, its repeated blocks alone where it names some")
    gradient_checkpointing: bool = execution(
        False,
        "keep less of a forward pass and compute it again in the backward pass: less memory, half as much work again",
    )
    checkpoint_steps: int = execution(50, "steps between checkpoints", least=1)
    checkpoint_seconds: float = execution(60.0, "and at most this long between them", above=0)


SAMPLERS = ("model", "ddim", "euler", "dpmpp_2m", "dpmpp_2m_karras")
"""How images are drawn; which of them fit a model, its family says (``qsd.models.families.Family.samplers``)."""


@dataclass
class GenerationConfig:
    """Images of a cell for evaluation."""

    sampler: str = meaning(
        "model",
        "from noise to image; model: DDIM for Stable Diffusion and SDXL, Euler for SD3 and FLUX",
        choices=SAMPLERS,
    )
    steps: int = meaning(50, "denoising steps", least=1, most=1000)
    guidance_scale: float = meaning(7.5, "classifier-free guidance; 1 switches it off", least=1)
    images_per_prompt: int = meaning(1, "initial noises per prompt", least=1)
    seed: int = meaning(0, "of the initial noise, the same for every cell", least=0, most=MOST_SEED)
    precision: str = meaning("fp32", "of the denoiser; the latents are always fp32", choices=("fp32", "bf16"))
    vae_precision: str | None = meaning(
        None, "of the VAE that decodes the images; null: model.vae_precision", choices=("fp32", "bf16")
    )
    batch_size: int = execution(64, "images per pipeline call", least=1)
    workers: int = execution(2, "threads that compress images while the next ones are drawn", least=1, most=1024)
    channels_last: bool = execution(False, "memory format of denoiser and VAE; faster convolutions on most hardware")
    compile: bool = execution(False, "torch.compile the denoiser: minutes at the start, then fewer and larger kernels")


@dataclass
class EvaluationConfig:
    """Prompts and scorers that compare cells."""

    prompts: str = location(REQUIRED, "CSV with prompt_id, caption, split; or a published set, such as partiprompts")
    splits: list[str] = meaning(["evaluation", "seen"], "which prompts of the file")
    prompts_per_split: int | None = meaning(None, "the first n prompts of each split; null means all", least=1)
    scorers: list[str] = meaning(REQUIRED, "score the generated images", registry="qsd.rewards.scorers")
    embedder: str | None = meaning(
        None,
        "reward model whose embeddings tell how different images are, from each other and from the base model's",
        registry="qsd.rewards.scorers",
    )
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
    method: MethodConfig = field(default_factory=MethodConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = meaning(
        0, "of training: adapter initialisation, data order, draws, stochastic selection", least=0, most=MOST_SEED
    )
    adapter: str = meaning("trained", "none is the untouched base model", choices=("trained", "none"))
    device: str = execution("auto", "auto, cpu, cuda or cuda:N")
    threads: int = execution(
        1, "CPU threads per process; fixed, so that results do not depend on the machine", least=1, most=1024
    )
