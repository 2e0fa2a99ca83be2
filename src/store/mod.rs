//! Our own database: the only module that holds its SQL.
