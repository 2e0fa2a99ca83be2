//! Pages in a real browser: as people use them, with a mouse, by keyboard alone, on a phone; and as others try to
//! use them.

mod forged;
mod leases;
mod requests;
