//! People sign in at an identity provider: a real one on loopback, which does wrong whatever it is told to.

mod browser;
mod device;
mod directory;
mod leaving;
mod scim;
mod wrong;
