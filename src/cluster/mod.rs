//! A private PostgreSQL: finding the server programs, making a cluster, starting and stopping it.
