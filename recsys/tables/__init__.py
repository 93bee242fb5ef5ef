"""The data contract: the three tables, reading them from a dataset folder and writing them."""

from recsys.tables.dataset import Dataset
from recsys.tables.files import check_parquet, looks_like
from recsys.tables.keys import repeated_rows
from recsys.tables.schemas import EVENT_TYPES, Events, Items, Users
from recsys.tables.table import Table, row_rules
from recsys.tables.writing import (
    new_dataset_folder,
    write_dataset,
    write_document,
    write_parquet,
    write_table,
)

__all__ = [
    "EVENT_TYPES",
    "Dataset",
    "Events",
    "Items",
    "Table",
    "Users",
    "check_parquet",
    "looks_like",
    "new_dataset_folder",
    "repeated_rows",
    "row_rules",
    "write_dataset",
    "write_document",
    "write_parquet",
    "write_table",
]
