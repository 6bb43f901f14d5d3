"""
How large the columns of a Parquet file become, from its page headers: before anything of it is decoded.

A footer may say anything of its columns, and 400 bytes may hold a run of a thousand million values. Decoders go by the
headers of the pages (Apache Parquet, parquet.thrift, in Thrift's compact protocol), and so does this.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow.parquet as pq

# Plain values, and runs of places in a dictionary. The others, which no writer of bundles uses, can make a long text
# of each few bytes.
_ENCODINGS: Final = {0, 2, 3, 8}
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
# What a value may take while it is decoded: eight bytes or an INT96 of twelve, and two levels.
_VALUE_BYTES: Final = 16
# A header holds a minimum and a maximum, perhaps of a text; and nothing nests deeper than its statistics.
_FIELDS_MAX, _DEPTH_MAX = 64, 4
_VARINT_BYTES_MAX: Final = 10
_Struct = dict[int, Any]


def decoded_bytes(data: bytes, metadata: pq.FileMetaData) -> int:
    """
    Return a bound of what the columns need in memory, texts that stand in a dictionary as 16 bytes each.

    Raises:
        ValueError: if a page is none that a writer of bundles makes, or the pages do not fill their column.
    """
    if not str(metadata.created_by).startswith("parquet-cpp-arrow"):  # others' columns may end elsewhere than they say
        raise ValueError(f"expected a file of Arrow, received one of {metadata.created_by!r}")
    total = 0
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            total += _column_bytes(data, metadata.row_group(group).column(place))
    return total


def _column_bytes(data: bytes, column: pq.ColumnChunkMetaData) -> int:
    at = column.data_page_offset
    if column.dictionary_page_offset is not None:
        at = min(at, column.dictionary_page_offset)
    end = at + column.total_compressed_size
    if not 0 < at <= end <= len(data):
        raise ValueError(f"expected the column {column.path_in_schema} within the file, it is from {at} to {end}")
    total = n_values = 0
    while at < end:  # a header has a byte or more
        header, at = _struct(data, at, end)
        n_bytes, n_packed = _count(header, 2), _count(header, 3)
        page = header.get({_DATA_PAGE: 5, _DICTIONARY_PAGE: 7}.get(_count(header, 1), -1))
        if not isinstance(page, dict) or _count(page, 2) not in _ENCODINGS:
            raise ValueError(f"expected plain pages in {column.path_in_schema}, found another one before byte {at}")
        total += n_bytes + _VALUE_BYTES * _count(page, 1)
        n_values += _count(page, 1) if 5 in header else 0
        at += n_packed
    if at != end or n_values != column.num_values:
        raise ValueError(f"expected pages of {column.num_values} values of {column.path_in_schema} up to byte {end}, "
                         f"found {n_values} up to {at}")  # fmt: skip
    return total


def _count(fields: _Struct, number: int) -> int:
    found = fields.get(number)
    if not isinstance(found, int) or found < 0:
        raise ValueError(f"expected a count in field {number} of a page header, found {found!r}")
    return found


def _struct(data: bytes, at: int, end: int, depth: int = 0) -> tuple[_Struct, int]:
    """Return the fields of a compact Thrift struct and where it ends; of texts their length."""
    fields: _Struct = {}
    number = 0
    for _ in range(_FIELDS_MAX):
        if at >= end or depth > _DEPTH_MAX:
            break
        head, at = data[at], at + 1
        if head == 0:
            return fields, at
        number, at = (number + (head >> 4), at) if head >> 4 else _zigzag(data, at, end)
        if number in fields:
            break
        fields[number], at = _value(data, at, end, head & 15, depth)
    raise ValueError(f"expected a page header before byte {at}")


def _value(data: bytes, at: int, end: int, type_: int, depth: int) -> tuple[Any, int]:
    if type_ in (1, 2):
        return type_ == 1, at
    if type_ in (4, 5, 6):
        return _zigzag(data, at, end)
    if type_ == 8:
        size, at = _varint(data, at, end)
        return None, at + size
    if type_ == 12:
        return _struct(data, at, end, depth + 1)
    raise ValueError(f"expected fields of a page header, found type {type_} before byte {at}")


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(data[at : min(end, at + _VARINT_BYTES_MAX)]):
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, at + i + 1
    raise ValueError(f"expected a number at byte {at}")


def _zigzag(data: bytes, at: int, end: int) -> tuple[int, int]:
    value, at = _varint(data, at, end)
    return (value >> 1) ^ -(value & 1), at
