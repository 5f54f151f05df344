"""The last layer of every network: logits of the labels, and valence and arousal beside them.

Shapes: B utterances, D width of what is classified, C classes.
"""

import torch
from torch import Tensor, nn


class Head(nn.Linear):
    """Logits of the labels and, where they are learned, valence and arousal in the raters' scale.

    dimensions: `mean` and `std` of both among the training rows, the units that the layer works
        in; None: logits alone.
    """

    def __init__(self, width: int, classes: int, dimensions: dict | None = None):
        count = len(dimensions["mean"]) if dimensions else 0
        super().__init__(width, classes + count)
        if dimensions:
            offset = [0.0] * classes + dimensions["mean"]
            self.register_buffer("offset", torch.tensor(offset), persistent=False)
            scale = [1.0] * classes + dimensions["std"]
            self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.has_dimensions = count > 0

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, D) -> (B, C), or (B, C + 2)."""
        outputs = super().forward(hidden)
        return outputs * self.scale + self.offset if self.has_dimensions else outputs
