"""The tables of a fleet record, and how an older record becomes one of today.

What must never be, the database itself forbids: two nodes with one id or one certificate, a board that is two
nodes, a node that vanishes, a journal that is rewritten.
"""

import sqlite3

VERSION = 1
"""`PRAGMA user_version` of a record of today. 0 is a new file, or a record that only knows boards."""

_BOARDS = """
CREATE TABLE IF NOT EXISTS boards (
    mac TEXT PRIMARY KEY,        -- base MAC address, lower case with colons
    board TEXT NOT NULL,         -- name of the board file
    image TEXT NOT NULL,         -- SHA-256 (hex) of the flash image that is on it
    flashed_at TEXT NOT NULL     -- UTC, ISO 8601; so are all times
)
"""
_NODES = """
CREATE TABLE nodes (
    node_id TEXT PRIMARY KEY CHECK (node_id <> ''),
    mac TEXT NOT NULL CHECK (length(mac) = 17 AND mac = lower(mac)),
    state TEXT NOT NULL CHECK (state IN ('claimed', 'in service', 'retired')),
    claimed_at TEXT NOT NULL,
    location TEXT, board TEXT, image TEXT, serial TEXT, fingerprint TEXT, client_id TEXT, first_publish TEXT,
    provisioned_at TEXT, expires TEXT, settings TEXT, last_seen TEXT, retired_at TEXT, reason TEXT,
    CHECK (client_id = node_id),
    CHECK (state <> 'in service' OR (location IS NOT NULL AND board IS NOT NULL AND image IS NOT NULL
        AND serial IS NOT NULL AND fingerprint IS NOT NULL AND client_id IS NOT NULL
        AND first_publish IS NOT NULL AND provisioned_at IS NOT NULL AND expires IS NOT NULL
        AND settings IS NOT NULL)),
    CHECK ((state = 'retired') = (retired_at IS NOT NULL)),
    UNIQUE (serial), UNIQUE (fingerprint)
)
"""
_JOURNAL = """
CREATE TABLE journal (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    mac TEXT NOT NULL,
    node_id TEXT REFERENCES nodes (node_id),  -- NULL: no node yet
    step TEXT NOT NULL CHECK (step <> ''),
    facts TEXT NOT NULL          -- a JSON object
)
"""
_GUARDS = (
    "CREATE UNIQUE INDEX board_of_one_node ON nodes (mac) WHERE state <> 'retired'",
    "CREATE INDEX journal_of_board ON journal (mac)",
    "CREATE INDEX journal_of_node ON journal (node_id)",
    "CREATE TRIGGER nodes_stay BEFORE DELETE ON nodes BEGIN "
    "SELECT RAISE(ABORT, 'a node is retired, never deleted'); END",
    "CREATE TRIGGER nodes_keep_their_id BEFORE UPDATE OF node_id ON nodes BEGIN "
    "SELECT RAISE(ABORT, 'a node keeps its id'); END",
    "CREATE TRIGGER journal_is_not_edited BEFORE UPDATE ON journal BEGIN "
    "SELECT RAISE(ABORT, 'the journal is append-only'); END",
    "CREATE TRIGGER journal_is_not_cut BEFORE DELETE ON journal BEGIN "
    "SELECT RAISE(ABORT, 'the journal is append-only'); END",
)
_LOOK = (
    "SELECT mac, board, image, flashed_at FROM boards LIMIT 1",
    "SELECT node_id, mac, state, claimed_at, fingerprint, reason FROM nodes LIMIT 1",
    "SELECT number, at, mac, node_id, step, facts FROM journal LIMIT 1",
)


def version(db: sqlite3.Connection) -> int:
    """The version of the record in this file."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def bring_up_to_date(db: sqlite3.Connection) -> None:
    """Make the tables that are missing, within the caller's transaction. What a record holds stays.

    Raises sqlite3.Error when it is another program's file.
    """
    if version(db) == 0:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if tables and "boards" not in tables:
            raise sqlite3.DatabaseError("it is another program's file")
        for statement in (_BOARDS, _LOOK[0], _NODES, _JOURNAL, *_GUARDS):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    look(db)


def look(db: sqlite3.Connection) -> None:
    """Raises sqlite3.Error when the tables are not those of a fleet record."""
    for statement in _LOOK:
        db.execute(statement).fetchone()
