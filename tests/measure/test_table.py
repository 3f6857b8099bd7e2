import csv
import io

import numpy as np
import pytest

from halfpixel.errors import ArgumentError, MissingDependencyError
from halfpixel.measure.table import Table
from halfpixel.optional import load_extra

TABLE = Table(
    {
        "name": ["a", 'b, "c"', ""],
        "n": np.array([1, 2, 3]),
        "x": np.array([0.1 + 0.2, np.nan, 2.0]),
        "y": np.array([12.3, 1 / 3, 1e-7], dtype=np.float32),
        "edge": np.array([True, False, True]),
    }
)


def test_csv_is_exact_and_without_noise() -> None:
    assert TABLE.csv_bytes().decode() == (
        "name,n,x,y,edge\n"
        "a,1,0.3,12.3,true\n"
        '"b, ""c""",2,,0.3333333,false\n'
        ",3,2,1e-07,true\n"
    )  # fmt: skip


def test_csv_keeps_ten_digits_and_whole_numbers_in_full() -> None:
    values = np.array([123456789.12345, 1 / 3, 98765432109876.0, -0.0, np.inf, 2.0**60])
    cells = Table({"x": values}).csv_bytes().decode().split()[1:]
    assert cells == ["123456789.1", "0.3333333333", "98765432109876", "0", "inf", "1.152921505e+18"]
    back = np.array([float(cell) for cell in cells])
    assert np.allclose(back, values, rtol=1e-9, atol=0)


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.csv_bytes().decode())))
    assert [row["name"] for row in rows] == list(TABLE.columns["name"])
    assert len(rows) == len(TABLE) == 3


def test_tables_stand_below_each_other() -> None:
    other = Table({"z": np.array([5]), "name": ["d"], "edge": np.array([False])})
    both = Table.concat([TABLE, other, TABLE])
    assert list(both.columns) == ["name", "n", "x", "y", "edge", "z"]
    assert len(both) == 7
    assert list(both.columns["name"]) == ["a", 'b, "c"', "", "d", "a", 'b, "c"', ""]
    assert np.array_equal(both.columns["n"], [1, 2, 3, np.nan, 1, 2, 3], equal_nan=True)
    assert np.array_equal(both.columns["z"], [np.nan] * 3 + [5] + [np.nan] * 3, equal_nan=True)
    assert both.columns["edge"].dtype == bool
    assert both.csv_bytes().decode().splitlines()[4] == "d,,,,false,5"


def test_missing_texts_are_empty() -> None:
    both = Table.concat([Table({"n": np.arange(2)}), Table({"name": ["x"], "n": np.array([7])})])
    assert list(both.columns["name"]) == ["", "", "x"]
    assert both.columns["n"].dtype.kind == "i"


def test_tables_without_rows_and_columns() -> None:
    none = Table({"n": np.zeros(0, dtype=np.int64), "name": []})
    assert Table.concat([none, Table({"n": np.array([1]), "name": ["a"]})]).csv_bytes() == b"n,name\n1,a\n"
    assert len(Table.concat([none, none])) == 0
    assert none.csv_bytes() == b"n,name\n"
    assert len(Table.concat([])) == len(Table({})) == 0


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ArgumentError, match="equally long"):
        Table({"a": np.arange(2), "b": ["x"]})
    with pytest.raises(ArgumentError, match="b: expected numbers"):
        Table({"b": np.zeros((2, 2))})
    with pytest.raises(ArgumentError, match="b is text in one table"):
        Table.concat([Table({"b": ["x"]}), Table({"b": np.arange(1)})])


def test_a_missing_library_names_what_to_install() -> None:
    with pytest.raises(MissingDependencyError, match=r'pip install "halfpixel\[parquet\]"'):
        load_extra("no_such_library_at_all", "halfpixel[parquet]")


def test_parquet_reads_back() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    back = parquet.read_table(io.BytesIO(TABLE.parquet_bytes())).to_pydict()
    assert list(back) == list(TABLE.columns)
    assert back["name"] == ["a", 'b, "c"', ""]
    assert back["n"] == [1, 2, 3]
    assert back["x"] == [0.1 + 0.2, None, 2.0]
    assert back["edge"] == [True, False, True]
    assert TABLE.parquet_bytes() == TABLE.parquet_bytes()
    none = Table({"name": [], "n": np.zeros(0)})
    assert str(parquet.read_table(io.BytesIO(none.parquet_bytes())).schema.field("name").type) == "string"


def test_pandas_has_the_same_columns() -> None:
    pytest.importorskip("pandas")
    frame = TABLE.to_pandas()
    assert list(frame.columns) == list(TABLE.columns)
    assert frame["x"].isna().tolist() == [False, True, False]
    assert frame["edge"].tolist() == [True, False, True]


def test_polars_has_the_same_columns() -> None:
    pytest.importorskip("polars")
    frame = TABLE.to_polars()
    assert frame.columns == list(TABLE.columns)
    assert frame["x"].to_list() == [0.1 + 0.2, None, 2.0]
    assert frame["name"].to_list() == ["a", 'b, "c"', ""]
