#!/usr/bin/env python3
"""Rewrites Parquet files as JSON lines, which `lode data` and training read (docs/training-data.md).

    runs/parquet_to_jsonl.py IN.parquet [MORE.parquet ...] OUT.jsonl [--columns messages,tools]

Rows become objects with the columns as keys, in the file's order; columns that are null are left out of
their row, at any depth, because Parquet gives every row the keys of all. Needs pyarrow
(pip install pyarrow). OUT is written to a temporary beside it and renamed.
"""
import argparse
import base64
import datetime
import json
import os
import sys


def plain(value):
    """What JSON can say, without keys that are null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode('ascii')
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def convert(paths, out, columns):
    import pyarrow.parquet
    rows = 0
    temporary = f'{out}.part-{os.getpid()}'
    try:
        with open(temporary, 'w', encoding='utf-8') as file:
            for path in paths:
                for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1024, columns=columns):
                    for row in batch.to_pylist():
                        file.write(json.dumps(plain(row), ensure_ascii=False) + '\n')
                        rows += 1
        os.replace(temporary, out)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('files', nargs='+', metavar='FILE', help='Parquet files, then OUT.jsonl')
    parser.add_argument('--columns', help='only these, separated by commas')
    flags = parser.parse_args()
    if len(flags.files) < 2:
        parser.error('name the Parquet files and, last, the file to write')
    *paths, out = flags.files
    try:
        rows = convert(paths, out, flags.columns.split(',') if flags.columns else None)
    except ImportError:
        sys.exit('parquet_to_jsonl.py: pyarrow is missing; pip install pyarrow')
    except OSError as error:
        sys.exit(f'parquet_to_jsonl.py: {error}')
    print(f'{rows} rows to {out}', file=sys.stderr)


if __name__ == '__main__':
    main()
