"""What models of item content ask of features."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp


def check_not_empty(F: Any) -> None:
    """Raise an error for features that are zero everywhere, such as those of no vocabulary."""
    if not (F.nnz if sp.issparse(F) else np.any(F)):
        raise ValueError(
            f"item_features of shape {F.shape} is zero everywhere, so it says nothing of the "
            "items; use item_features=None for a model without content."
        )
