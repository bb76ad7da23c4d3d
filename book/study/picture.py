"""Draw the picture of a registration that the README and the first page show.

    python -m study.picture

Simulated brains, the shipped model of that name, the first two test subjects: all of it can be made again offline.
"""

import matplotlib.pyplot as plt
import torch

from lddr.data.registry import load_cohort
from lddr.models import load_model
from lddr.plotting import FIXED, MOVING, outline, show_section, use_style
from study.records import PROJECT

FIGURE = PROJECT / "book" / "figures" / "registration.png"


def main() -> None:
    """Draw three panels, moving, fixed and warped, with the outline of the fixed brain on each."""
    use_style()
    model, config, _ = load_model("simulated_brains")
    test = load_cohort("simulated_brains", "test", size=config.size, subjects=2)
    moving, fixed = test.images[:1], test.images[1:]
    with torch.no_grad():
        warped = model(moving, fixed).warped[-1]
    panels = {"moving": moving, "fixed": fixed, "moving, warped onto fixed": warped}
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.7), layout="constrained")
    for ax, (title, image) in zip(axes, panels.items(), strict=True):
        show_section(ax, image, "coronal")
        outline(ax, test.labels[1:] > 0, FIXED, "coronal")
        ax.set_title(title)
    outline(axes[0], test.labels[:1] > 0, MOVING, "coronal")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110, metadata={"Software": None})
    print(f"{FIGURE}: look at it, then commit it.")


if __name__ == "__main__":
    main()
