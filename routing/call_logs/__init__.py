"""Importers: the logs of other tools as CALL_LOG. One module a format; polars expressions, nothing from disk."""
