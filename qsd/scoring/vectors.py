"""Columns of tables that hold a number or a vector per row, and the arrays that they are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def vector_column(values: NDArray[np.float32]) -> Any:
    """A column of numbers for values [N], of lists of D numbers for values [N, D]."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def vectors_of(column: pa.ChunkedArray[Any]) -> NDArray[Any]:
    """The values [N] or [N, D] of such a column."""
    if not pa.types.is_fixed_size_list(column.type):
        return column.to_numpy()
    vectors: Any = column.combine_chunks()
    numbers: NDArray[Any] = vectors.flatten().to_numpy()
    return numbers.reshape(-1, column.type.list_size)
