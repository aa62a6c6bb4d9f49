//! Two servers on one PostgreSQL.
