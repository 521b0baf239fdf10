"""The reward of latents: decode them, score the pixels. What an on-policy method asks instead of a data set of pairs.

At a sampler step the caller passes the predicted clean latents (Eq. 12 of TailorPO: r_t(c, x_t) ≈ r(c, x̂_0(x_t))), at
the end the latents themselves. An ensemble is the mean over its members of (ψ - mean) / std; off-policy mean and std
are those of the data set, and here, where there is none, of calibration latents: see :meth:`LatentReward.calibrate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from qsd.config.schema import RewardConfig
from qsd.errors import UserError
from qsd.models.decoder import ImageDecoder
from qsd.rewards.caption_memory import CaptionMemory
from qsd.rewards.clip import ClipScorer
from qsd.rewards.ensemble import UNITS, members_of
from qsd.rewards.opening import open_reward
from qsd.rewards.scorer import Scorer
from qsd.rewards.scorers import ENSEMBLE, REGISTRY
from qsd.scoring.precision import check_precision, computing

Z_SCORE = "z_score"
"""The only ``reward.combine`` that needs no data set of pairs."""
_RESOLUTION = 1e-6
"""Scores that differ by less than this share of the largest are equal in fp32."""


class LatentReward:
    """A reward model, or an ensemble of some, on latents.

    Args:
        reward: the section ``reward``: model, members, combine, precision and weights.
        decoder: of the latents; the scorers are loaded onto its device.
        batch_size: images that are decoded and scored at once.

    Attributes:
        calls: images that were scored so far, those of :meth:`calibrate` included.
        member_calls: the same, an image counted once for each member that scores it.
        not_finite: images among them whose score was infinite or no number.

    Raises:
        UserError: missing weights, an ensemble of fewer than two or with a judge among them, a ``combine`` that needs
            a data set, or a precision that the device lacks.
    """

    def __init__(self, reward: RewardConfig, decoder: ImageDecoder, batch_size: int) -> None:
        self._is_ensemble = reward.model == ENSEMBLE
        if self._is_ensemble and reward.combine != Z_SCORE:
            raise UserError(
                f"reward.combine is {reward.combine!r}, which ranks images within a data set; on-policy training has "
                f"none: use {Z_SCORE}"
            )
        device = str(decoder.device)
        check_precision(reward.precision, device)
        self._decoder, self._precision, self._batch_size = decoder, reward.precision, batch_size
        names = members_of(reward.model, reward.members)
        self._members = [_opened(name, reward.weights, device) for name in names]
        self._scale: tuple[Tensor, Tensor] | None = None
        self.calls = self.member_calls = self.not_finite = 0

    @property
    def names(self) -> list[str]:
        """The reward models that score."""
        return [scorer.name for scorer in self._members]

    @property
    def unit(self) -> str:
        """Of the rewards."""
        return UNITS[Z_SCORE] if self._is_ensemble else self._members[0].unit

    @property
    def revisions(self) -> dict[str, str]:
        """Revision of each reward model by name."""
        return {scorer.name: scorer.revision for scorer in self._members}

    @property
    def described(self) -> str:
        """Name and unit, for people."""
        models = f"{ENSEMBLE} of {', '.join(self.names)}" if self._is_ensemble else self.names[0]
        return f"{models} ({self.unit})"

    # ── Scores ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def pixels(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [0, 1] of latents [B, C, h, w]; see :meth:`ImageDecoder.pixels`.

        Decoded ``batch_size`` at a time; differentiable in the latents where gradients are on.
        """
        return torch.cat([self._decoder.pixels(part) for part in torch.split(latents, self._batch_size)])

    @torch.no_grad()
    def score(self, latents: Tensor, captions: Sequence[str]) -> Tensor:
        """Rewards [B], fp32, of latents [B, C, h, w] with their captions, without gradients.

        A reward that is infinite or no number stays so, and is counted in ``not_finite``; an image with a pixel that is
        no number has none. Scorers with a differentiable path get the pixels as they are, the others 8-bit images.

        Raises:
            ValueError: not as many captions as latents.
        """
        return self._counted(self._combined(self._scores(latents, captions)))

    def score_with_gradient(self, latents: Tensor, captions: Sequence[str]) -> Tensor:
        """Rewards [B] as :meth:`score`, differentiable in the latents; the graph of all B is kept until it is used.

        Raises:
            UserError: a scorer without a differentiable path.
            ValueError: not as many captions as latents.
        """
        self.require_gradient()
        with torch.enable_grad():
            return self._counted(self._combined(self._scores(latents, captions)))

    def require_gradient(self) -> None:
        """Check that the reward has a gradient in the latents.

        Raises:
            UserError: a scorer without a differentiable path.
        """
        without = [name for name in self.names if not REGISTRY.get(name).differentiable]
        if without:
            field = "reward.members" if self._is_ensemble else "reward.model"
            raise UserError(
                f"{field}: {', '.join(without)} {'have' if len(without) > 1 else 'has'} no gradient in the pixels, "
                "which guidance needs; use method tailorpo, or another reward"
            )

    # ── The scale of an ensemble ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_calibrated(self) -> bool:
        """Whether rewards can be computed: an ensemble's only after :meth:`calibrate` or :meth:`load_tensors`."""
        return self._scale is not None or not self._is_ensemble

    def calibrate(self, latents: Tensor, captions: Sequence[str]) -> None:
        """Standardise an ensemble's members by mean and population std of their finite scores of these latents.

        For a single reward model nothing is computed. A member whose scores are all equal counts 0 from then on.

        Args:
            latents: [B, C, h, w], such as the base model's images of some training prompts.
            captions: one per latent.

        Raises:
            UserError: a member that scores none of them with a finite number.
            ValueError: not as many captions as latents.
        """
        if not self._is_ensemble:
            return
        with torch.no_grad():
            scores = self._scores(latents, captions)
        means, weights = [], []
        for name, of_member in zip(self.names, scores.double(), strict=True):
            finite = of_member[of_member.isfinite()]
            if not len(finite):
                raise UserError(f"reward.members: {name} gives no finite score for any of {len(captions)} images")
            std = finite.std(correction=0)
            has_spread = bool(std > _RESOLUTION * finite.abs().max())
            means.append(finite.mean())
            weights.append(1 / std if has_spread else torch.zeros_like(std))
        self._scale = torch.stack(means), torch.stack(weights)

    def tensors(self) -> dict[str, Tensor]:
        """The scale of an ensemble, for a checkpoint: ``mean`` and ``inverse_std`` [members], float64; else nothing."""
        return {} if self._scale is None else {"mean": self._scale[0], "inverse_std": self._scale[1]}

    def load_tensors(self, stored: Mapping[str, Tensor]) -> None:
        """Continue with the scale that :meth:`tensors` gave."""
        if stored:
            mean, weight = (stored[name].to(self._decoder.device) for name in ("mean", "inverse_std"))
            assert self._is_ensemble, self.names
            assert mean.shape == weight.shape == (len(self._members),), mean.shape
            self._scale = mean, weight

    # ── Inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _scores(self, latents: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores of each member [members, B], fp32."""
        if len(latents) != len(captions):
            raise ValueError(f"{len(latents)} latents but {len(captions)} captions")
        parts, size = [latents.new_zeros(len(self._members), 0, dtype=torch.float32)], self._batch_size
        for first in range(0, len(latents), size):
            pixels = self._decoder.pixels(latents[first : first + size])
            # A scorer may crop a pixel away, or round it to 8 bits, and so give a score to a broken image.
            known = pixels.detach().isfinite().flatten(1).all(dim=1)
            scored = [self._member(scorer, pixels, captions[first : first + size]) for scorer in self._members]
            parts.append(torch.stack(scored).where(known, torch.nan))
        self.calls += len(latents)
        self.member_calls += len(latents) * len(self._members)
        return torch.cat([part.to(self._decoder.device) for part in parts], dim=1)

    def _member(self, scorer: Scorer, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        with computing(self._precision, str(self._decoder.device)):
            if REGISTRY.get(scorer.name).differentiable:
                return scorer.score_tensor(pixels, captions).float()
            return torch.from_numpy(scorer.score(_eight_bit(pixels), captions)).to(pixels.device)

    def _combined(self, scores: Tensor) -> Tensor:
        """Rewards [B] of the members' scores [members, B]."""
        if not self._is_ensemble:
            return scores[0]
        assert self._scale is not None, "calibrate an ensemble before it scores"
        mean, weight = self._scale
        # A score that is no number, or infinite, makes the sum one, too: 0 · inf is no number.
        return ((scores.double() - mean[:, None]) * weight[:, None]).mean(dim=0).float()

    def _counted(self, rewards: Tensor) -> Tensor:
        self.not_finite += int((~rewards.detach().isfinite()).sum())
        return rewards


def _opened(name: str, weights: str, device: str) -> Scorer:
    scorer = open_reward(name, weights, device)
    return CaptionMemory(scorer) if type(scorer) is ClipScorer else scorer


def _eight_bit(pixels: Tensor) -> list[Image.Image]:
    """Images of pixels [B, 3, H, W] in [0, 1], rounded as diffusers rounds them; black where there is no number."""
    rounded = (pixels.nan_to_num(0.0) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(values) for values in rounded]
