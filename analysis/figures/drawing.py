"""What every figure is before it is a file, and how it becomes one: equal drawings give equal bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

PNG, SVG, PDF = FORMATS = ("png", "svg", "pdf")
_DPI = 120
_STYLE: Any = {
    # DejaVu comes with matplotlib, so that a figure is the same on every machine.
    "font.family": "DejaVu Sans",
    # A dollar sign in a cell's name is a dollar sign.
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    # Ids of shapes are hashes of their content; without a salt of ours they are random.
    "svg.hashsalt": "qsd",
    # TrueType: many publishers refuse the Type 3 fonts that are matplotlib's default.
    "pdf.fonttype": 42,
}
_WITHOUT_TIME_AND_VERSION: Mapping[str, Mapping[str, None]] = {
    PNG: {"Software": None},
    SVG: {"Date": None, "Creator": None},
    PDF: {"CreationDate": None, "Creator": None, "Producer": None},
}


LOOKS_CAPTION = "On the primary scorer, intervals are those of the looks at which cells stopped, together 95 %."
"""Added where a caption speaks of 95 % intervals, and seeds are added in looks."""


@dataclass(frozen=True)
class Drawing:
    """A figure of matplotlib, which can be written as a vector image too, or a picture of pixels.

    Attributes:
        name: of its files, without suffix.
        caption: a sentence or two, to be shown below it.
        style: settings of matplotlib besides those of all figures; they hold again when the figure is written.
    """

    name: str
    image: Figure | Image.Image
    caption: str
    style: Any = field(default_factory=dict)

    def save(self, form: str) -> bytes | None:
        """The file's content; None for a picture of pixels as anything but PNG.

        Args:
            form: one of ``FORMATS``.
        """
        stream = io.BytesIO()
        if isinstance(self.image, Image.Image):
            if form != PNG:
                return None
            self.image.save(stream, "PNG")
        else:
            with styled(self.style):  # ticks and layout are only made when the figure is drawn
                self.image.savefig(stream, format=form, metadata=dict(_WITHOUT_TIME_AND_VERSION[form]))
        return stream.getvalue()


def styled(style: Any) -> AbstractContextManager[None]:
    """The settings of all figures, and those of one of them: name of matplotlib's setting -> value."""
    return mpl.rc_context({**_STYLE, **style})


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, without any window; to be made and filled within :func:`styled`."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
