-- The end of the log, and who may append facts.
CREATE TABLE head (
  one BIGINT PRIMARY KEY CHECK (one = 1),
  sequence BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  epoch BIGINT NOT NULL,
  -- The process that leads (empty: nobody), what it is called, its session, and until when it leads without a sign of life.
  holder TEXT NOT NULL,
  leader TEXT NOT NULL,
  session BIGINT NOT NULL,
  session_start TIMESTAMPTZ NOT NULL,
  leads_until TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 40);
INSERT INTO head VALUES (1, 0, decode(repeat('00', 32), 'hex'), 0, '', '', 0, '-infinity', '-infinity');

-- The last commit of each process: how one whose answer was lost is told from one that never was.
CREATE TABLE writers (
  id TEXT PRIMARY KEY,
  commits BIGINT NOT NULL,
  at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 40);

-- Every run that ever was: short key (global number of its first fact), id, number.
CREATE TABLE run_keys (
  key BIGINT PRIMARY KEY,
  run TEXT COLLATE "C" NOT NULL UNIQUE,
  project TEXT COLLATE "C" NOT NULL,
  number BIGINT NOT NULL
);
CREATE INDEX run_keys_number ON run_keys (project, number);

-- The log. encoding: 0 plain, 1 zstd, 2 removed (payload is then the SHA-256 of what was there).
CREATE TABLE entries (
  sequence BIGINT PRIMARY KEY,
  at BIGINT NOT NULL,
  run BIGINT,
  run_sequence BIGINT NOT NULL,
  kind TEXT COLLATE "C" NOT NULL,
  encoding BIGINT NOT NULL,
  length BIGINT NOT NULL,
  payload BYTEA NOT NULL,
  hash BYTEA NOT NULL
);
CREATE UNIQUE INDEX entries_of_run ON entries (run, run_sequence) WHERE run IS NOT NULL;
CREATE INDEX entries_change ON entries (sequence) WHERE run IS NULL;

-- Read models: all that follows can be made anew from the log.
CREATE TABLE runs (
  key BIGINT PRIMARY KEY,
  project TEXT COLLATE "C" NOT NULL,
  pipeline TEXT COLLATE "C" NOT NULL,
  branch TEXT COLLATE "C" NOT NULL,
  revision TEXT COLLATE "C" NOT NULL,
  ended BIGINT,
  outcome TEXT COLLATE "C",
  summary TEXT COLLATE "C" NOT NULL
);
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
  kind TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL,
  body TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (kind, key)
);

CREATE TABLE artifacts (
  run BIGINT NOT NULL,
  node BIGINT NOT NULL,
  name TEXT COLLATE "C" NOT NULL,
  version TEXT COLLATE "C",
  body TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (run, node, name)
);

CREATE TABLE timings (
  project TEXT COLLATE "C" NOT NULL,
  step TEXT COLLATE "C" NOT NULL,
  took BIGINT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (project, step)
);

-- What is beside the log: what came in, output of steps, what is to be done outside.
CREATE TABLE deliveries (
  sequence BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id TEXT COLLATE "C" NOT NULL UNIQUE,
  project TEXT COLLATE "C" NOT NULL,
  at BIGINT NOT NULL,
  source TEXT COLLATE "C" NOT NULL,
  headers TEXT COLLATE "C" NOT NULL,
  encoding BIGINT NOT NULL,
  length BIGINT NOT NULL,
  body BYTEA NOT NULL,
  settled BIGINT,
  outcome TEXT COLLATE "C"
);
CREATE INDEX deliveries_project ON deliveries (project, sequence);
CREATE INDEX deliveries_kept ON deliveries (project, at) WHERE settled IS NOT NULL AND length > 0;
CREATE INDEX deliveries_open ON deliveries (sequence) WHERE settled IS NULL;

CREATE TABLE pieces (
  run BIGINT NOT NULL,
  node BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  begins BIGINT NOT NULL,
  length BIGINT NOT NULL,
  encoding BIGINT NOT NULL,
  bytes BYTEA NOT NULL
);
CREATE UNIQUE INDEX pieces_of_log ON pieces (run, node, attempt, begins, length);

CREATE TABLE errands (
  id TEXT COLLATE "C" PRIMARY KEY,
  kind TEXT COLLATE "C" NOT NULL,
  due BIGINT NOT NULL,
  tries BIGINT NOT NULL,
  body TEXT COLLATE "C" NOT NULL
);
CREATE INDEX errands_due ON errands (due, id);
