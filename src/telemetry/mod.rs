//! Logs; traces and metrics have their place here.
