"""Files as tables: Parquet, feather, CSV, JSON lines, and the two equity files that hide actions in factors."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from qraft_contracts.outcomes import Malformed
from svc_ingest.adapters import captures
from svc_ingest.domain.actions import Actions, actions_of_factors, dividends_of_adjusted
from svc_ingest.domain.datasets import ReaderName
from svc_ingest.domain.parts import Part, Torn

# Rows held at once: 200,000 posts are 100 MB.
PART_ROWS: Final = 200_000
# A line of JSON beyond this is not a row but a file that lost its line ends.
MAX_LINE_BYTES: Final = 4_000_000
# So many broken lines in one file: it is not of this format.
MAX_TORN: Final = 1_000
_PARSERS: Final[Any] = [pacsv.ISO8601]  # the stubs know texts only


class FileReader:
    """Reads the files of a data set; see the port."""

    def parts(self, path: Path, *, reader: ReaderName, companion: Path | None) -> Iterator[Part]:
        """Yield a file's rows; see the port."""
        try:
            yield from self._parts(path, reader, companion)
        except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise Malformed(
                "unreadable_file", f"expected a whole {reader} file in {path}: {error}; copy it again"
            ) from error

    def _parts(self, path: Path, reader: ReaderName, companion: Path | None) -> Iterator[Part]:
        match reader:
            case "parquet":
                yield from _numbered(_read_parquet(path))
            case "feather":
                yield from _numbered(_read_feather(path))
            case "csv":
                yield from _read_csv(path)
            case "jsonl":
                yield from _read_jsonl(path)
            case "factors":
                yield from _numbered(iter([_factor_actions(path, companion)]))
            case "adjusted_closes":
                yield from _numbered(iter([_adjusted_actions(path)]))
            case _:
                with _opened(path) as lines:
                    yield from captures.parts(lines, reader=reader, stem=_stem(path))


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    # The caller closes it; gzip gives lines as a plain file does.
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _numbered(tables: Iterator[pa.Table]) -> Iterator[Part]:
    first = 0
    for table in tables:
        yield Part("rows", table, first)
        first += table.num_rows


def _read_parquet(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows == 0:
            yield file.schema_arrow.empty_table()
        for batch in file.iter_batches(PART_ROWS):
            yield pa.Table.from_batches([batch])


def _read_feather(path: Path) -> Iterator[pa.Table]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        if file.num_record_batches == 0:
            yield file.schema.empty_table()
        for i in range(file.num_record_batches):
            yield pa.Table.from_batches([file.get_batch(i)])


def _read_csv(path: Path) -> Iterator[Part]:
    torn: list[Torn] = []

    def refuse(row: Any) -> Literal["skip", "error"]:
        # pyarrow counts the header as line 1; line -1 = read in parallel, which is switched off below.
        torn.append(Torn((row.number or 0) - 2, "wrong_number_of_columns", row.text))
        if len(torn) > MAX_TORN:
            return "error"
        return "skip"

    table = pacsv.read_csv(
        path,
        read_options=pacsv.ReadOptions(use_threads=False),
        parse_options=pacsv.ParseOptions(invalid_row_handler=refuse),
        convert_options=pacsv.ConvertOptions(timestamp_parsers=_PARSERS),
    )
    yield Part("rows", table, 0, tuple(torn))


def _read_jsonl(path: Path) -> Iterator[Part]:
    rows: list[dict[str, Any]] = []
    torn: list[Torn] = []
    first = number = 0
    with _opened(path) as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES), b"")):
            try:
                rows.append(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.DecodeError as error:
                torn.append(Torn(number, f"not_json: {error}", line.decode(errors="replace").rstrip()))
                if len(torn) > MAX_TORN:
                    raise Malformed("unreadable_file", f"expected JSON lines in {path}, {len(torn)} are not") from error
            if len(rows) >= PART_ROWS:
                yield Part("rows", pa.Table.from_pylist(rows), first, tuple(torn))
                rows, torn, first = [], [], number + 1
    if rows or torn:
        yield Part("rows", pa.Table.from_pylist(rows), first, tuple(torn))


def _factor_actions(path: Path, companion: Path | None) -> pa.Table:
    """Return the splits and dividends of a ticker; the companion holds its unadjusted hourly bars."""
    if companion is None or not companion.is_file():
        raise Malformed("no_companion", f"expected the unadjusted bars beside {path.name}, there is no {companion}")
    factors, bars = pq.read_table(path), pq.read_table(companion, columns=["local_time", "close"])
    day = bars["local_time"].to_numpy().astype("datetime64[D]")
    last = np.flatnonzero(np.append(day[1:] != day[:-1], True))
    try:
        found = actions_of_factors(
            factors["date"].to_numpy().astype("datetime64[D]"),
            factors["price_factor"].to_numpy(),
            factors["split_factor"].to_numpy(),
            trading_days=day[last],
            closes=bars["close"].to_numpy()[last],
        )
    except ValueError as error:
        raise Malformed("no_close", f"{path.name}: {error}; the bars in {companion.name} do not reach") from error
    return _action_table(found, path.name.partition("_")[0])


def _adjusted_actions(path: Path) -> pa.Table:
    table = pq.read_table(path, columns=["date", "ticker", "close", "adj_close"]).sort_by(
        [("ticker", "ascending"), ("date", "ascending")]
    )
    ticker = np.asarray(table["ticker"].to_pylist())
    tables = [
        _action_table(
            dividends_of_adjusted(
                table["date"].to_numpy().astype("datetime64[D]")[own],
                table["close"].to_numpy()[own],
                table["adj_close"].to_numpy()[own],
            ),
            str(name),
        )
        for name in np.unique(ticker)
        for own in [ticker == name]
    ]
    return pa.concat_tables(tables)


def _action_table(found: Actions, ticker: str) -> pa.Table:
    return pa.table(
        {
            "ticker": pa.array([ticker] * found.ex_date.size, pa.string()),
            "ex_date": pa.array(found.ex_date, pa.date32()),
            "split_ratio": pa.array(found.split_ratio),
            "dividend": pa.array(found.dividend),
        }
    )
