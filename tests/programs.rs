//! Programs end to end.
