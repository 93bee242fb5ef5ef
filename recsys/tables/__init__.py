"""The data contract: the tables, reading them from a dataset folder and writing them."""

from recsys.tables.appending import append_part, part_stems
from recsys.tables.dataset import ERASED, PSEUDONYMS, Dataset
from recsys.tables.files import check_parquet, looks_like
from recsys.tables.keys import repeated_rows
from recsys.tables.rejects import RejectsFile
from recsys.tables.rewriting import (
    dataset_lock,
    other_files,
    remove_leftovers,
    replace_document,
    rewrite_part,
)
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
    "ERASED",
    "EVENT_TYPES",
    "MERCHANDISING_ACTIONS",
    "PSEUDONYMS",
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
    "dataset_lock",
    "looks_like",
    "new_dataset_folder",
    "other_files",
    "part_stems",
    "remove_leftovers",
    "repeated_rows",
    "replace_document",
    "rewrite_part",
    "row_rules",
    "split_rows",
    "write_dataset",
    "write_document",
    "write_table",
]
