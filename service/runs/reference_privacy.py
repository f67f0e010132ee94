"""A reference's personal columns, treated as those of logged rows are."""

import pyarrow as pa

from service.registry.privacy import SUBJECT, KeyMissingError, Pseudonyms
from service.registry.values import ATTRIBUTIONS, DROP, HASH, VersionSpec


def without_dropped(table: pa.Table, version: VersionSpec) -> pa.Table:
    """Return the table without the columns that are never stored."""
    dropped = {f"tags.{name}" for name, policy in version.tags if policy == DROP}
    for own in version.dropped:
        dropped |= {own.name, f"{ATTRIBUTIONS}.{own.name}"}
    return table.drop_columns([name for name in table.column_names if name in dropped])


def hash_columns(table: pa.Table, version: VersionSpec, pseudonyms: Pseudonyms | None) -> pa.Table:
    """Return the table with the same hashes in its columns that logged rows have."""
    if version.hashes and pseudonyms is None:
        raise KeyMissingError
    if pseudonyms is None:
        return table
    hashed = {own.name for own in version.features if own.pii == HASH} | {SUBJECT}
    hashed |= {f"tags.{name}" for name, policy in version.tags if policy == HASH}
    for place, name in enumerate(table.column_names):
        if name in hashed:
            encoded = table.column(name).combine_chunks().dictionary_encode()
            texts = encoded.dictionary.to_pylist()
            known = pa.array([pseudonyms.of(name, text) for text in texts], pa.string())
            column = pa.DictionaryArray.from_arrays(encoded.indices, known).cast(pa.string())
            table = table.set_column(place, name, column)
    return table
