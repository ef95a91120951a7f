"""`db`: the state of the store, its soundness, its schema."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from pathlib import Path
from typing import Any, Final

from holdfast.cli.access import client, living_workers, require_database
from holdfast.cli.failures import DONE
from holdfast.cli.formats import plural, size
from holdfast.cli.marks import MARKS
from holdfast.cli.output import Output
from holdfast.engine import Engine
from holdfast.errors import SchemaTooNew, SchemaTooOld, StoreDamaged, StoreError
from holdfast.model.run import RunStatus
from holdfast.settings import store_url
from holdfast.store.open import file_of, schema_of, shown

LISTED: Final = 10
"""Faults that are told."""


_RESTORE: Final = "Restore it from a backup."


class DatabaseDamaged(StoreError):
    """The database is damaged."""

    code = "database_damaged"


def db(args: Namespace, out: Output) -> int:
    """Carry out `db status`, `db check` or `db upgrade`."""
    url = store_url(args.url)
    if (
        args.action != "upgrade" or file_of(url) is not None
    ):  # a server's schema may be made before the first run
        require_database(url)
    actions = {"status": _status, "check": _check, "upgrade": _upgrade}
    return asyncio.run(actions[args.action](url, out))


async def _status(url: str, out: Output) -> int:
    schema, newest = schema_of(url)
    state: dict[str, Any] = {
        "url": shown(url),
        "schema": schema,
        "newest_schema": newest,
        **_sizes(file_of(url)),
    }
    if schema == newest:
        async with client(url) as engine:
            state["runs"] = {
                status.value: count for status in RunStatus if (count := await engine.count(status=status))
            }
            state["workers_alive"] = len(await living_workers(engine))
    if out.json:
        out.document(state)
    else:
        _show_status(out, state)
    if schema < newest:
        raise SchemaTooOld(f"the database has schema {schema}, this Holdfast {newest}")
    if schema > newest:
        out.warn(
            f"the database has schema {schema}, this Holdfast {newest}: a newer Holdfast works on it, too"
        )
    return DONE


def _sizes(file: Path | None) -> dict[str, int]:
    if file is None:
        return {}
    log = file.with_name(f"{file.name}-wal")
    return {"bytes": file.stat().st_size, "log_bytes": log.stat().st_size if log.exists() else 0}


def _show_status(out: Output, state: dict[str, Any]) -> None:
    def field(name: str, *parts: Any) -> None:
        out.say((f"{name:<9}", "bright_black"), *parts)

    field("store", state["url"])
    if "bytes" in state:
        field("size", f"{size(state['bytes'])}, write-ahead log {size(state['log_bytes'])}")
    field("schema", f"{state['schema']} of {state['newest_schema']}")
    for number, (status, count) in enumerate(state.get("runs", {}).items()):
        mark, color = MARKS[status]
        field("" if number else "runs", (f"{mark} {status:<10}", color), f"{count:,}")
    if not state.get("runs"):
        field("runs", "none")
    field("workers", plural(state.get("workers_alive", 0), "worker"), " alive")


async def _check(url: str, out: Output) -> int:
    try:
        async with client(url) as engine:
            faults = list(await engine.store.check())
    except StoreDamaged as error:  # which advises what is being done here
        raise DatabaseDamaged(error.message, fix=_RESTORE) from error
    if out.json:
        out.document({"url": shown(url), "sound": not faults, "faults": faults})
    if faults:
        listed = "; ".join(faults[:LISTED]) + ("; …" if len(faults) > LISTED else "")
        raise DatabaseDamaged(f"the database is damaged: {listed}", fix=_RESTORE)
    if not out.json:
        out.say(("✓ sound", "green"), f"  {shown(url)}")
    return DONE


async def _upgrade(url: str, out: Output) -> int:
    """Bring the schema to today's: opening does that."""
    before, newest = schema_of(url)
    if before > newest:
        raise SchemaTooNew(f"the database has schema {before}, this Holdfast {newest}")
    async with Engine(url, workers=False, observers=()):
        after, _ = schema_of(url)
    if out.json:
        out.document({"url": shown(url), "before": before, "schema": after})
    elif before == after:
        out.say(("✓ ", "green"), f"schema {after} is today's already")
    else:
        out.say(("✓ ", "green"), f"upgraded from schema {before} to {after}")
    return DONE
