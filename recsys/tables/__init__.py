"""The data contract: the tables, reading them from a dataset folder and writing them."""

from recsys.tables.appending import append_part, part_stems
from recsys.tables.dataset import Dataset
from recsys.tables.files import check_parquet, looks_like
from recsys.tables.keys import repeated_rows
from recsys.tables.rejects import RejectsFile
from recsys.tables.rules import REASON_SEPARATOR, row_rules, split_rows
from recsys.tables.schemas import (
    EVENT_TYPES,
    MERCHANDISING_ACTIONS,
    SCHEMAS,
    Events,
    Items,
    Merchandising,
    Users,
)
from recsys.tables.table import Table
from recsys.tables.writing import (
    new_dataset_folder,
    write_dataset,
    write_document,
    write_table,
)

__all__ = [
    "EVENT_TYPES",
    "MERCHANDISING_ACTIONS",
    "REASON_SEPARATOR",
    "SCHEMAS",
    "Dataset",
    "Events",
    "Items",
    "Merchandising",
    "RejectsFile",
    "Table",
    "Users",
    "append_part",
    "check_parquet",
    "looks_like",
    "new_dataset_folder",
    "part_stems",
    "repeated_rows",
    "row_rules",
    "split_rows",
    "write_dataset",
    "write_document",
    "write_table",
]
