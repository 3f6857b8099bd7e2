"""Rows and columns, and the files they become."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from halfpixel.errors import ArgumentError
from halfpixel.optional import load_extra

Column = npt.NDArray[Any] | Sequence[str]
"""Numbers or booleans `[n]`, or `n` texts."""


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of one length, in order.

    A number that there is not is NaN: an empty cell in CSV, null in Parquet and polars. A missing text is "".

    Attributes:
        columns: name to values; one-dimensional arrays of numbers or booleans, or sequences of texts.

    Raises:
        ArgumentError: columns of different lengths, or of more than one dimension.
    """

    columns: Mapping[str, Column]

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ArgumentError(f"the columns of a table are equally long, got {lengths}")
        for name, values in self.columns.items():
            if isinstance(values, np.ndarray) and (values.ndim != 1 or values.dtype.kind not in "biuf"):
                raise ArgumentError(f"{name}: expected numbers [n], got {list(values.shape)} of {values.dtype}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @staticmethod
    def concat(tables: Sequence[Table]) -> Table:
        """One table below the other; a column that one of them has not is empty there.

        Columns come in the order in which they first appear. Where numbers are missing, integers and booleans become
        floats, as only those know NaN.

        Raises:
            ArgumentError: a column of texts here and of numbers there.
        """
        names = dict.fromkeys(name for table in tables for name in table.columns)
        return Table({name: _stack(name, tables) for name in names})

    def csv_bytes(self) -> bytes:
        """The table as UTF-8 CSV with a header.

        Whole numbers are written in full, others with 10 significant digits (7 where they are 32 bits wide), booleans
        as true and false.
        """
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(zip(*map(_cells, self.columns.values()), strict=True))
        return file.getvalue().encode("utf-8", "backslashreplace")

    def parquet_bytes(self) -> bytes:
        """The table as an Apache Parquet file.

        Raises:
            MissingDependencyError: pyarrow is not installed (the extra `parquet`).
        """
        file = io.BytesIO()
        load_extra("pyarrow.parquet", "halfpixel[parquet]").write_table(self.to_arrow(), file)
        return file.getvalue()

    def to_arrow(self) -> Any:
        """A `pyarrow.Table`, missing numbers as null.

        Raises:
            MissingDependencyError: pyarrow is not installed (the extra `parquet`).
        """
        arrow = load_extra("pyarrow", "halfpixel[parquet]")
        # a column of texts has that type also when it is empty; from_pandas: NaN becomes null
        arrays = {
            name: arrow.array(values, from_pandas=True)
            if isinstance(values, np.ndarray)
            else arrow.array(list(values), arrow.string())
            for name, values in self.columns.items()
        }
        return arrow.table(arrays)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return load_extra("pandas", "pandas").DataFrame(self._plain())

    def to_polars(self) -> Any:
        """A `polars.DataFrame`, missing numbers as null.

        Raises:
            MissingDependencyError: polars is not installed.
        """
        polars = load_extra("polars", "polars")
        texts = {name: polars.String for name, values in self.columns.items() if not isinstance(values, np.ndarray)}
        return polars.DataFrame(self._plain(), schema_overrides=texts, nan_to_null=True)

    def _plain(self) -> dict[str, npt.NDArray[Any] | list[str]]:
        return {k: values if isinstance(values, np.ndarray) else list(values) for k, values in self.columns.items()}


def _stack(name: str, tables: Sequence[Table]) -> Column:
    parts = [table.columns.get(name) for table in tables]
    arrays = {isinstance(part, np.ndarray) for part in parts if part is not None}
    if len(arrays) > 1:
        raise ArgumentError(f"{name} is text in one table and numbers in another")
    if arrays == {False}:
        texts: list[str] = []
        for part, table in zip(parts, tables, strict=True):
            texts += [""] * len(table) if part is None else list(part)
        return texts
    numbers = [np.full(len(t), np.nan) if part is None else part for part, t in zip(parts, tables, strict=True)]
    return np.concatenate([part for part in numbers if len(part)] or numbers[:1])


def _cells(values: Column) -> list[str]:
    """What stands in a CSV file."""
    if not isinstance(values, np.ndarray):
        return list(values)
    if values.dtype.kind == "b":
        return ["true" if value else "false" for value in values.tolist()]
    if values.dtype.kind in "iu":
        return [str(value) for value in values.tolist()]
    digits = 7 if values.dtype.itemsize <= 4 else 10
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int) -> str:
    if value != value:
        return ""
    whole = value.is_integer() and abs(value) < 1 << 53
    return str(int(value)) if whole else f"{value:.{digits}g}"
