//! Other people's databases: the only module that holds the SQL sent to targets.
