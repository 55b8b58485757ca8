-- Version 2.
-- One row a key: its entry (deadline, absent), its memory (remembered, epoch), or both. They share a row so that a
-- settle touches one page of this table, not two.
CREATE TABLE keys (
    key BLOB PRIMARY KEY,
    deadline INTEGER,
    absent INTEGER NOT NULL DEFAULT 0,
    remembered INTEGER,
    epoch INTEGER
) STRICT, WITHOUT ROWID;
-- `absent` is there so that a page of what is due is read from the index alone.
CREATE INDEX due ON keys (deadline, key, absent) WHERE deadline IS NOT NULL;
CREATE INDEX remembered ON keys (remembered) WHERE remembered IS NOT NULL;

-- New entries that came in bulk, a batch a row, until they are filed into `keys`.
CREATE TABLE unfiled (
    batch INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    entries BLOB NOT NULL
) STRICT;

CREATE TABLE outbox (
    place INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    key BLOB NOT NULL,
    deadline INTEGER NOT NULL,
    evidence INTEGER NOT NULL,
    settled_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    first_attempt INTEGER,
    not_before INTEGER NOT NULL DEFAULT 0
) STRICT;
-- An id is there once. It is led by what comes and goes in order, since ids do not: what follows one another shares pages.
CREATE UNIQUE INDEX event ON outbox (deadline, key, id);
-- An event's first insert pays for the first index only.
CREATE INDEX untried ON outbox (settled_at) WHERE attempts = 0;
CREATE INDEX untried_waiting ON outbox (not_before) WHERE attempts = 0 AND not_before <> 0;
CREATE INDEX tried ON outbox (not_before) WHERE attempts > 0;
CREATE INDEX tried_oldest ON outbox (settled_at) WHERE attempts > 0;

CREATE TABLE dead_letters (
    id TEXT PRIMARY KEY,
    key BLOB NOT NULL,
    deadline INTEGER NOT NULL,
    evidence INTEGER NOT NULL,
    settled_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX parked ON dead_letters (at, id);

CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    config_epoch INTEGER NOT NULL,
    flushes INTEGER NOT NULL,
    slots TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
-- The store's own: the newest epoch, when the last event was delivered.
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
