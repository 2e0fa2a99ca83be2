//! Builds every part from the configuration and runs them until told to stop. The only place that wires.
