"""Types of arguments."""

from typing import Any, TypeAlias

# What scikit-learn takes for a matrix: an array or nested lists, any sparse format of scipy, a
# DataFrame. No type says that.
MatrixLike: TypeAlias = Any
