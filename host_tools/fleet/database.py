"""The fleet record as a file: its owner's alone, safe for several processes, and for a kill at any moment."""

import contextlib
import errno
import json
import os
import re
import sqlite3
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from host_tools.errors import RefusedError
from host_tools.fleet import schema
from host_tools.fleet.ids import ids
from host_tools.fleet.record import (
    CLAIMED,
    IN_SERVICE,
    RETIRED,
    Entry,
    Fact,
    FleetError,
    Node,
    Record,
    moment,
    utc,
)
from host_tools.pki.names import check_node_id

_PATIENCE_S = 10.0  # another limpet may be writing
_LONGEST = 120  # characters of what SQLite says, which may quote the file
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NODE = ", ".join(field.name for field in fields(Node))
_CHAIN = [field.name for field in fields(Record) if field.name not in ("node_id", "mac")]


class Fleet:
    """A fleet record. Use as a context manager; threads may share it.

    Every method that changes something has committed it when it returns. All raise FleetError when the file
    cannot be read or written.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open the record; a file that does not exist is made, if `create`.

        Raises FleetError when the file cannot be made or written, is no fleet record, or is one of a newer
        limpet.
        """
        self._path = path
        self._lock = threading.RLock()
        with self._told():
            _make(path, create)
            self._db = sqlite3.connect(
                path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
        try:
            with self._told():
                self._db.execute("PRAGMA foreign_keys = ON")
                self._db.execute("PRAGMA synchronous = FULL")
                self._bring_up_to_date()
        except FleetError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    # Boards

    def board_of(self, mac: str) -> str | None:
        """The name of the board with this MAC address; None when the record does not have it."""
        row = self._row("SELECT board FROM boards WHERE mac = ?", mac)
        return None if row is None else str(row[0])

    def record(self, mac: str, board: str, image: str) -> None:
        """Note that `board` with this MAC address now has the image of this SHA-256 (journal: flash)."""
        now = _now()
        with self._change():
            self._db.execute(
                "INSERT INTO boards VALUES (?, ?, ?, ?) ON CONFLICT (mac) DO UPDATE SET "
                "board = excluded.board, image = excluded.image, flashed_at = excluded.flashed_at",
                (mac, board, image, now),
            )
            holder = self._holder(mac)
            self._append(mac, holder.node_id if holder else None, "flash", {"board": board, "image": image})

    # Nodes

    def node(self, node_id: str) -> Node | None:
        """The node with this id; None when the record does not have it."""
        row = self._row(f"SELECT {_NODE} FROM nodes WHERE node_id = ?", node_id)
        return None if row is None else _node(row)

    def known(self, node_id: str) -> Node:
        """The node with this id. Raises FleetError when the record does not have it."""
        with self._told():
            return self._known(node_id)

    def node_of(self, mac: str) -> Node | None:
        """The node that the board with this MAC address is now; None when it is none."""
        with self._told():
            return self._holder(mac)

    def nodes(self) -> list[Node]:
        """All nodes, by their ids."""
        return [_node(row) for row in self._rows(f"SELECT {_NODE} FROM nodes ORDER BY node_id")]

    def claim(self, mac: str, node_id: str, *, replace: bool = False) -> None:
        """Take a node id for a board, before anything is done with it. It may be the board's already.

        `replace` gives the id of another board, or of a node that was retired, to this one; what was known of
        the node goes to the journal. Raises RefusedError when the id is taken, or the board is another node.
        """
        check_node_id(node_id)
        _check_mac(mac)
        with self._change():
            self._claim(mac, node_id, replace)

    def claim_next(self, mac: str, pattern: str) -> str:
        """The id that this board has, if it has one; else claim the first of `pattern` that was never used.

        Raises UsageError when the pattern makes no ids, RefusedError when all of them were used.
        """
        _check_mac(mac)
        with self._change():
            holder = self._holder(mac)
            if holder is not None:
                return holder.node_id
            node_id = self._next(pattern)
            self._claim(mac, node_id, replace=False)
            return node_id

    def next_id(self, pattern: str) -> str:
        """The first id of a pattern such as `line3-{n:03}` that was never used. It is not claimed by that.

        Raises as `claim_next` does.
        """
        with self._told():
            return self._next(pattern)

    def in_service(self, record: Record) -> None:
        """Record that a claimed node has proved itself, with the whole chain (journal: in service).

        Raises RefusedError when the node is not claimed for that board, or when one of the links is another
        node's.
        """
        values = asdict(record) | {
            "first_publish": utc(moment(record.first_publish)),
            "expires": utc(moment(record.expires)),
        }
        if empty := [name for name, value in values.items() if not value]:
            raise FleetError(f"The record of '{record.node_id}' lacks {', '.join(empty)}.")
        chain = {name: values[name] for name in _CHAIN}
        with self._change():
            self._check_claimed(record)
            now = _now()
            names = ", ".join(f"{name} = ?" for name in _CHAIN)
            try:
                self._db.execute(
                    f"UPDATE nodes SET {names}, state = ?, provisioned_at = ?, last_seen = ? "
                    "WHERE node_id = ?",
                    (*chain.values(), IN_SERVICE, now, values["first_publish"], record.node_id),
                )
            except sqlite3.IntegrityError as error:
                raise RefusedError(
                    f"The chain of '{record.node_id}' has a link that is another node's ({error})."
                ) from None
            self._append(record.mac, record.node_id, "in service", chain)

    def rotated(self, node_id: str, serial: str, fingerprint: str, expires: str) -> None:
        """Record that a node in service has another certificate now (journal: rotated).

        Raises RefusedError when it is not in service.
        """
        with self._change():
            node = self._serving(node_id)
            self._db.execute(
                "UPDATE nodes SET serial = ?, fingerprint = ?, expires = ? WHERE node_id = ?",
                (serial, fingerprint, utc(moment(expires)), node_id),
            )
            if node.fingerprint != fingerprint:
                facts = {"serial": serial, "fingerprint": fingerprint, "before": node.fingerprint}
                self._append(node.mac, node_id, "rotated", facts)

    def seen(self, node_id: str, at: datetime) -> None:
        """Note that a node was heard; an earlier moment than the last one changes nothing."""
        with self._change():
            self._db.execute(
                "UPDATE nodes SET last_seen = ? WHERE node_id = ? AND coalesce(last_seen, '') < ?",
                (utc(at), node_id, utc(at)),
            )

    def retire(self, node_id: str, reason: str) -> None:
        """Record that a node is gone for good (journal: retired). Its board is free.

        Raises FleetError when there is no such node.
        """
        with self._change():
            node = self._known(node_id)
            if node.is_retired:
                return
            self._db.execute(
                "UPDATE nodes SET state = ?, retired_at = ?, reason = ? WHERE node_id = ?",
                (RETIRED, _now(), reason, node_id),
            )
            self._append(node.mac, node_id, "retired", {"reason": reason})

    # The journal

    def note(self, mac: str, node_id: str, step: str, **facts: Fact) -> None:
        """Append a line to the journal: a step of what is done with a board. Facts are never secrets.

        `node_id` is of a node that was claimed, or empty.
        """
        _check_mac(mac)
        with self._change():
            self._append(mac, node_id or None, step, facts)

    def journal(self, mac: str) -> list[Entry]:
        """What was done with a board, in its order."""
        return self._entries("mac = ?", mac)

    def journal_of(self, node_id: str) -> list[Entry]:
        """What was done with a node, on whichever board, in its order."""
        return self._entries("node_id = ?", node_id)

    # Within a transaction, or beside one

    def _claim(self, mac: str, node_id: str, replace: bool) -> None:
        holder, node = self._holder(mac), self._find(node_id)
        if holder is not None and holder.node_id == node_id:
            return
        if holder is not None:
            raise RefusedError(
                f"The board {mac} is the node '{holder.node_id}' already: provision it as that one, or "
                f"decommission '{holder.node_id}' first."
            )
        if node is None:
            self._db.execute(
                "INSERT INTO nodes (node_id, mac, state, claimed_at) VALUES (?, ?, ?, ?)",
                (node_id, mac, CLAIMED, _now()),
            )
            self._append(mac, node_id, "claimed", {})
            return
        if not replace:
            taken = (
                f"was retired on {node.retired_at[:10]}" if node.is_retired else f"is the board {node.mac}"
            )
            raise RefusedError(f"The node '{node_id}' {taken}: take another id, or replace it by --replace.")
        cleared = ", ".join(f"{name} = NULL" for name in (*_CHAIN, "provisioned_at", "last_seen"))
        self._db.execute(
            f"UPDATE nodes SET {cleared}, retired_at = NULL, reason = NULL, state = ?, mac = ?, "
            "claimed_at = ? WHERE node_id = ?",
            (CLAIMED, mac, _now(), node_id),
        )
        self._append(node.mac, node_id, "replaced", {"by": mac, "fingerprint": node.fingerprint})
        self._append(mac, node_id, "claimed", {"before": node.mac})

    def _next(self, pattern: str) -> str:
        used = {row[0] for row in self._db.execute("SELECT node_id FROM nodes")}
        for node_id in ids(pattern):
            if node_id not in used:
                return node_id
        raise RefusedError(f"All node ids of {pattern!r} were used: take another pattern.")

    def _check_claimed(self, record: Record) -> None:
        node = self._find(record.node_id)
        if node is None or node.mac != record.mac or node.is_retired:
            raise RefusedError(f"The node '{record.node_id}' is not claimed for the board {record.mac}.")

    def _serving(self, node_id: str) -> Node:
        node = self._known(node_id)
        if node.state != IN_SERVICE:
            raise RefusedError(f"The node '{node_id}' is not in service: it is {node.state}.")
        return node

    def _known(self, node_id: str) -> Node:
        node = self._find(node_id)
        if node is None:
            raise FleetError(
                f"{self._path} has no node '{node_id}': `limpet fleet list` shows those that it has."
            )
        return node

    def _find(self, node_id: str) -> Node | None:
        row = self._db.execute(f"SELECT {_NODE} FROM nodes WHERE node_id = ?", (node_id,)).fetchone()
        return None if row is None else _node(row)

    def _holder(self, mac: str) -> Node | None:
        words = f"SELECT {_NODE} FROM nodes WHERE mac = ? AND state <> ?"
        row = self._db.execute(words, (mac, RETIRED)).fetchone()
        return None if row is None else _node(row)

    def _append(self, mac: str, node_id: str | None, step: str, facts: dict[str, Any]) -> None:
        self._db.execute(
            "INSERT INTO journal (at, mac, node_id, step, facts) VALUES (?, ?, ?, ?, ?)",
            (_now(), mac, node_id, step, json.dumps(facts, ensure_ascii=False)),
        )

    def _entries(self, where: str, value: str) -> list[Entry]:
        words = (
            f"SELECT at, mac, coalesce(node_id, ''), step, facts FROM journal WHERE {where} ORDER BY number"
        )
        rows = self._rows(words, value)
        try:
            return [
                Entry(at, mac, node_id, step, json.loads(facts)) for at, mac, node_id, step, facts in rows
            ]
        except ValueError as error:
            raise self._unusable(error) from None

    def _row(self, words: str, *values: str) -> tuple[Any, ...] | None:
        return next(iter(self._rows(words, *values)), None)

    def _rows(self, words: str, *values: str) -> list[tuple[Any, ...]]:
        with self._told():
            return self._db.execute(words, values).fetchall()

    # The file

    def _bring_up_to_date(self) -> None:
        found = schema.version(self._db)
        if found > schema.VERSION:
            raise FleetError(
                f"{self._path} is a fleet record of a newer limpet (its version is {found}, this one knows "
                f"{schema.VERSION}): use that limpet, or name another file."
            )
        if found == schema.VERSION:
            schema.look(self._db)
            return
        with self._change():  # who waited for another process finds it done
            schema.bring_up_to_date(self._db)

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """All of it or nothing, and nobody writes in between."""
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise FleetError(
                    f"{self._path} was in use by another program for {_PATIENCE_S:.0f} s: end that one, "
                    "and try again."
                ) from None
            raise self._unusable(error) from None
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # SQLite quotes what is damaged
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> FleetError:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        why = "".join(each if each.isprintable() else " " for each in why)[:_LONGEST]
        return FleetError(
            f"{self._path} cannot be used as a fleet record ({why}): name another file, or mend that."
        )


def _make(path: Path, create: bool) -> None:
    """See that there is a file, and that nobody else can read it: it says who is where."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        file = os.open(path, flags, 0o600)
    except FileNotFoundError:
        if create:
            raise
        raise FleetError(
            f"There is no fleet record {path}: name it with --fleet, or provision a node first."
        ) from None
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no file")
        if mode & 0o077:
            os.fchmod(file, 0o600)
    finally:
        os.close(file)


def _check_mac(mac: str) -> None:
    if not _MAC.fullmatch(mac):
        raise RefusedError(f"{mac!r} is no MAC address, and a board without one cannot be recorded.")


def _node(row: tuple[Any, ...]) -> Node:
    return Node(*("" if value is None else str(value) for value in row))


def _now() -> str:
    return utc(datetime.now(UTC))
