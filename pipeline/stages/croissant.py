"""Description of a dataset in the format Croissant (https://docs.mlcommons.org/croissant), for sites with data sets."""

from typing import Any

import pandas as pd

from pipeline.dataset import Dataset

VOCABULARIES = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "recordSet": "cr:recordSet",
    "field": "cr:field",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "source": "cr:source",
    "fileObject": "cr:fileObject",
    "extract": "cr:extract",
    "column": "cr:column",
}
"""The JSON-LD context: short names of the terms that are used below."""
COLUMN_WORDS = {"prompt": "What a model gets.", "answer": "What a model is to continue it by."}


def describe_dataset(name: str, data: Dataset, version: str) -> dict[str, Any]:
    """Return the Croissant description of a dataset in the folder `name`, beside which the description is to lie."""
    tables = {f"{split}.csv": table for split, table in data.tables.items()}
    return {
        "@context": VOCABULARIES,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"Examples of the task {data.task.name} for small transformers: {data.task.model_dump_json()}",
        "version": version,
        "distribution": [_describe_file(name, file, data.digests[file]) for file in tables],
        "recordSet": [_describe_table(file, table) for file, table in tables.items()],
    }


def _describe_file(name: str, file: str, digest: str) -> dict[str, str]:
    location = {"contentUrl": f"{name}/{file}", "encodingFormat": "text/csv", "sha256": digest}
    return {"@type": "cr:FileObject", "@id": file, "name": file} | location


def _describe_table(file: str, table: pd.DataFrame) -> dict[str, Any]:
    split = file.removesuffix(".csv")
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{split}/{column}",
            "name": column,
            "description": COLUMN_WORDS.get(column, "A property of the example, for breakdowns."),
            "dataType": "sc:Integer" if pd.api.types.is_integer_dtype(table[column]) else "sc:Text",
            "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
        }
        for column in map(str, table)
    ]
    return {"@type": "cr:RecordSet", "@id": split, "name": split, "field": fields}
