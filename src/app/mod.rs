//! What pgvalet does: one file per verb.
