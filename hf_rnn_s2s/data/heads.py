"""A first check of the files that a run names: whether they exist, and have the columns that are asked for."""

from collections.abc import Iterator
from pathlib import Path

from .arguments import DataArguments, DataError
from .rows import FORMATS, HEADS, check_exists
from .sides import Layout, columns_of, find_side


def file_problems(arguments: DataArguments, layout: Layout) -> Iterator[str]:
    """What is wrong with the files of all splits, as far as their first rows show.

    Their other rows are checked when they are loaded.
    """
    for split in ("train", "validation", "test"):
        given = getattr(arguments, f"{split}_file")
        if given and Path(given).suffix.lower() in FORMATS:
            yield from _table_problems(Path(given), arguments.column_names, layout.of_split(split))
        elif given:
            yield from parallel_text_problems(f"{split}_file", given, arguments, layout)


def _table_problems(path: Path, names: list[str] | None, layout: Layout) -> Iterator[str]:
    try:
        columns = columns_of(HEADS[FORMATS[path.suffix.lower()]](path, names))
    except DataError as error:
        yield str(error)
        return
    found = 0
    for side in (layout.source, layout.target):
        try:
            find_side(side, columns, str(path))
            found += 1
        except DataError as error:
            yield str(error)
    if found == 2:  # then the rest can be looked at
        try:
            layout.find(columns, str(path))
        except DataError as error:
            yield str(error)


def parallel_text_problems(option: str, prefix: str, arguments: DataArguments, layout: Layout) -> Iterator[str]:
    """What is wrong with the prefix of a parallel text, its languages and its two files, apart from their content."""
    if Path(prefix).is_file():
        yield (
            f"{option} {prefix} has no suffix that says how to read it ({', '.join(FORMATS)}); "
            "of a parallel text give what its two files have in common, without the dot and the language."
        )
        return
    if layout.reads_audio:
        yield f"{option} {prefix} is no table; recordings are named in one ({', '.join(FORMATS)})."
        return
    columns = {
        "reference_columns": layout.references,
        "feature_column": layout.features,
        "column_names": arguments.column_names,
    }
    for name in (name for name, given in columns.items() if given):
        yield f"{name} is about tables, and {option} {prefix} is the prefix of a parallel text: leave it out."
    languages = arguments.source_lang, arguments.target_lang
    if not all(languages):
        yield (
            f"{option} {prefix} is not a file. If it is the prefix of a parallel text, "
            "name its two languages with source_lang and target_lang."
        )
    elif languages[0] == languages[1]:
        yield f"source_lang and target_lang are both {languages[0]!r}: {prefix} would be its own translation."
    for language in dict.fromkeys(filter(None, languages)):
        try:
            check_exists(Path(f"{prefix}.{language}"))
        except DataError as error:
            yield str(error)
