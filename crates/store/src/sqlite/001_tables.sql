-- The end of the log, and who may append facts.
CREATE TABLE head (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  sequence INTEGER NOT NULL,
  hash BLOB NOT NULL,
  epoch INTEGER NOT NULL,
  leader TEXT NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, zeroblob(32), 0, '');

-- Every run that ever was: short key (global number of its first fact), id, number.
CREATE TABLE run_keys (
  key INTEGER PRIMARY KEY,
  run TEXT NOT NULL UNIQUE,
  project TEXT NOT NULL,
  number INTEGER NOT NULL
) STRICT;
CREATE INDEX run_keys_number ON run_keys (project, number);

-- The log. encoding: 0 plain, 1 zstd, 2 removed (payload is then the SHA-256 of what was there).
CREATE TABLE entries (
  sequence INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  run INTEGER,
  run_sequence INTEGER NOT NULL,
  kind TEXT NOT NULL,
  encoding INTEGER NOT NULL,
  length INTEGER NOT NULL,
  payload BLOB NOT NULL,
  hash BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_of_run ON entries (run, run_sequence) WHERE run IS NOT NULL;
CREATE INDEX entries_change ON entries (sequence) WHERE run IS NULL;

-- Read models: all that follows can be made anew from the log.
CREATE TABLE runs (
  key INTEGER PRIMARY KEY,
  project TEXT NOT NULL,
  pipeline TEXT NOT NULL,
  branch TEXT NOT NULL,
  revision TEXT NOT NULL,
  ended INTEGER,
  outcome TEXT,
  summary TEXT NOT NULL
) STRICT;
CREATE INDEX runs_project ON runs (project, key);
CREATE INDEX runs_branch ON runs (project, branch, key);
CREATE INDEX runs_pipeline ON runs (project, pipeline, key);
CREATE INDEX runs_outcome ON runs (project, outcome, key);
CREATE INDEX runs_any_outcome ON runs (outcome, key);
CREATE INDEX runs_revision ON runs (revision, key) WHERE revision <> '';
CREATE INDEX runs_active ON runs (key) WHERE ended IS NULL;
CREATE INDEX runs_active_project ON runs (project, key) WHERE ended IS NULL;
CREATE INDEX runs_ended ON runs (project, ended) WHERE ended IS NOT NULL;

CREATE TABLE records (
  kind TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
  run INTEGER NOT NULL,
  node INTEGER NOT NULL,
  name TEXT NOT NULL,
  version TEXT,
  body TEXT NOT NULL,
  PRIMARY KEY (run, node, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE timings (
  project TEXT NOT NULL,
  step TEXT NOT NULL,
  took INTEGER NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (project, step)
) STRICT, WITHOUT ROWID;

-- What is beside the log: what came in, output of steps, what is to be done outside.
CREATE TABLE deliveries (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  project TEXT NOT NULL,
  at INTEGER NOT NULL,
  source TEXT NOT NULL,
  headers TEXT NOT NULL,
  encoding INTEGER NOT NULL,
  length INTEGER NOT NULL,
  body BLOB NOT NULL,
  settled INTEGER,
  outcome TEXT
) STRICT;
CREATE INDEX deliveries_project ON deliveries (project, sequence);
CREATE INDEX deliveries_kept ON deliveries (project, at) WHERE settled IS NOT NULL AND length > 0;
CREATE INDEX deliveries_open ON deliveries (sequence) WHERE settled IS NULL;

CREATE TABLE pieces (
  run INTEGER NOT NULL,
  node INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  begins INTEGER NOT NULL,
  length INTEGER NOT NULL,
  encoding INTEGER NOT NULL,
  bytes BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX pieces_of_log ON pieces (run, node, attempt, begins, length);

CREATE TABLE errands (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  due INTEGER NOT NULL,
  tries INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX errands_due ON errands (due, id);
