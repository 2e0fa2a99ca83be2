//! A TOML document read with every fault at once: where it is, what is wrong, what to write instead.
