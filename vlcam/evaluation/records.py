"""Records: one is a flat dictionary, many are columns, which take a hundredth of the memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as arrow
from numpy.typing import NDArray

Value = str | int | float | bool
Record = dict[str, Value]
"""One thing scored, with one map: flat, with the experiment's columns."""

Column = NDArray[Any]


class Columns:
    """Records of an evaluation, in order; ``records["hit"]`` is a column (N,)."""

    def __init__(self, values: Mapping[str, Column]) -> None:
        self._values = dict(values)

    @classmethod
    def of(cls, table: arrow.Table) -> Columns:
        """The rows of a table; texts that occur again and again are kept once."""
        found = {}
        for name in table.column_names:
            column = table.column(name).combine_chunks()
            if arrow.types.is_string(column.type):
                coded = column.dictionary_encode()
                texts = np.array(coded.dictionary.to_pylist(), dtype=object)
                found[name] = texts[coded.indices.to_numpy()]
            else:
                found[name] = column.to_numpy(zero_copy_only=False)
        return cls(found)

    def __len__(self) -> int:
        return len(next(iter(self._values.values()), ()))

    def __getitem__(self, name: str) -> Column:
        return self._values[name]

    def rows(self, chosen: Column | Sequence[int]) -> Columns:
        """Those of a mask (N,), or of some places in order."""
        return Columns({name: values[chosen] for name, values in self._values.items()})

    def by(self, name: str) -> dict[Any, Columns]:
        """Parts by the value of a column, in the order in which the values first occur."""
        column = self[name]
        return {value: self.rows(column == value) for value in dict.fromkeys(column.tolist())}

    def record(self, row: int) -> Record:
        """One of them, as it was written."""
        return {name: values[row : row + 1].tolist()[0] for name, values in self._values.items()}
